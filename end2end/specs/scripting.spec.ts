import { makeRoom, seed } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import { path } from "../support/talker.ts";

test.use({ javaScriptEnabled: false });

const texts = Array.from({ length: 60 }, (_, index) => `메시지 ${index + 1}`);

test("with scripting off the rooms can be read, and nothing is offered that does nothing", async ({
  page,
  server,
}) => {
  const rooms = [await makeRoom(server, "하나"), await makeRoom(server, "둘")];
  await page.goto("/chat/room");
  await expect(page.locator("#roomListTable a")).toHaveCount(rooms.length);
  await expect(page.locator("noscript")).toBeVisible();
  expect(await page.locator("noscript").innerText()).toContain("자바스크립트를 켜 주세요");
  await expect(page.locator("button:visible, input:visible, textarea:visible, dialog:visible")).toHaveCount(0);
  await page.getByRole("link", { name: "하나" }).click();
  await expect(page.locator("#room_name")).toHaveText("방제목 : 하나");
});

test("with scripting off a room can be read", async ({ browser, page, server }) => {
  const room = await makeRoom(server, "읽는 방");
  await seed(browser, server, room, "철수", texts);
  await page.goto(path(room));
  await expect(page.locator("#room_name")).toHaveText("방제목 : 읽는 방");
  const bubbles = page.locator("#messageArea .bubble");
  await expect(bubbles).toHaveText(texts.slice(-50));
  await expect(bubbles.last()).toBeInViewport();
  await expect(page.locator("noscript")).toBeVisible();
  expect(await page.locator("noscript").innerText()).toContain("자바스크립트를 켜 주세요");
  await expect(page.locator("button:visible, input:visible, textarea:visible, dialog:visible")).toHaveCount(0);
  await page.getByRole("link", { name: "English" }).click();
  await expect(page.locator("#room_name")).toHaveText("Room: 읽는 방");
  expect(await page.locator("noscript").innerText()).toContain("Turn JavaScript on");
});

test("with scripting off a phone finds the way back to the list", async ({ page, server }) => {
  await page.setViewportSize({ width: 360, height: 740 });
  const room = await makeRoom(server, "읽는 방");
  await page.goto(path(room));
  await page.getByRole("link", { name: "방 목록으로" }).click();
  await expect(page.getByRole("link", { name: "읽는 방" })).toBeVisible();
});
