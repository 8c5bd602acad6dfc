import { makeRoom } from "../support/api.ts";
import { ERROR_ANSWER, expect, test } from "../support/test.ts";

test.use({ provoked: ERROR_ANSWER });

for (const [what, path] of [
  ["an unknown room", "/chat/room/enter/00000000-0000-4000-8000-000000000000"],
  ["a room whose id is no UUID", "/chat/room/enter/hello"],
  ["an unknown path", "/somewhere/else"],
  ["a path with no room", "/chat/room/enter/"],
]) {
  for (const [locale, title, hint, back] of [
    ["ko-KR", "방을 찾을 수 없습니다", "주소가 바뀌었거나", "방 목록으로"],
    ["en-US", "There is no such room", "Its address may have changed", "Back to the rooms"],
  ]) {
    test(`${what} is told in ${locale}, with a way back`, async ({ server, talker }) => {
      await makeRoom(server, "있는 방");
      const guest = await talker("영희", { locale });
      const response = await guest.page.goto(path);
      expect(response?.status()).toBe(404);
      const main = guest.page.getByRole("main");
      await expect(main.getByRole("heading", { name: title })).toBeVisible();
      await expect(main).toContainText(hint);
      await expect(guest.page).toHaveTitle(new RegExp(title));
      await expect(guest.page.locator("html")).toHaveAttribute("lang", locale.slice(0, 2));
      // The same once the script has taken over.
      await guest.is("online");
      await expect(main.getByRole("heading", { name: title })).toBeVisible();
      await expect(guest.page.locator("#messageInput")).toHaveCount(0);
      await main.getByRole("link", { name: back }).click();
      await expect(guest.page).toHaveURL(/\/chat\/room$/);
      await expect(guest.rooms.filter({ hasText: "있는 방" })).toBeVisible();
    });
  }
}

test("a phone shows the same, with a way back", async ({ talker }) => {
  const guest = await talker("영희", { viewport: { width: 360, height: 740 } });
  await guest.page.goto("/chat/room/enter/hello");
  await expect(guest.page.getByRole("heading", { name: "방을 찾을 수 없습니다" })).toBeVisible();
  await guest.page.getByRole("link", { name: "방 목록으로" }).click();
  await expect(guest.page.locator("#roomName")).toBeVisible();
});

test("the address alone leads to the list", async ({ talker }) => {
  const guest = await talker("영희");
  await guest.page.goto("/");
  await expect(guest.page).toHaveURL(/\/chat\/room$/);
});
