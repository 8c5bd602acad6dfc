import { makeRoom, said } from "../support/api.ts";
import { Prefix } from "../support/prefix.ts";
import { ERROR_ANSWER, SOCKET_LOST, expect, test } from "../support/test.ts";
import { path } from "../support/talker.ts";

test.use({ provoked: new RegExp(`${SOCKET_LOST.source}|${ERROR_ANSWER.source}|net::ERR_`) });
test.describe.configure({ timeout: 120_000 });

for (const [prefix, strips] of [
  ["/chat-app", true],
  ["/chat-app", false],
  ["/chat", true],
  ["/chat", false],
] as const) {
  test.describe(`under ${prefix}, which the proxy ${strips ? "takes off" : "keeps"}`, () => {
    test.use({ options: ["--base-path", prefix] });

    test("one finds the list, talks, reloads, changes the language and leaves", async ({ server, talker }) => {
      const room = await makeRoom(server, "길목");
      const proxy = await Prefix.before(server.address, { prefix, strips });
      try {
        const guest = await talker("영희", { at: proxy.address });
        const { page } = guest;
        await page.goto(prefix);
        await expect(page).toHaveURL(`${proxy.address}${prefix}/chat/room`);
        await guest.is("online");
        await page.locator("#roomName").fill("새 방");
        await page.getByRole("button", { name: "생성하기" }).click();
        await expect(guest.rooms.filter({ hasText: "새 방" })).toBeVisible();
        await guest.rooms.filter({ hasText: "길목" }).click();
        await expect(page).toHaveURL(`${proxy.address}${prefix}${path(room)}`);
        await expect(page.locator("#room_name")).toHaveText("방제목 : 길목");
        await expect(guest.rooms.and(page.locator("[aria-current=page]"))).toContainText("길목");
        await guest.is("online");
        await guest.say("하나");
        await guest.allStored(1);
        await page.reload();
        await guest.is("online");
        await guest.sees(["하나"]);
        await page.locator("a[hreflang=en]").click();
        await expect(page).toHaveURL(`${proxy.address}${prefix}${path(room)}?lang=en`);
        await expect(page.locator("#room_name")).toHaveText("Room: 길목");
        await guest.is("online");
        await guest.say("둘");
        await guest.sees(["하나", "둘"]);
        await guest.allStored(2);
        await page.getByRole("button", { name: "Leave" }).click();
        await expect(page).toHaveURL(`${proxy.address}${prefix}/chat/room`);
        await page.goBack();
        await expect(page.locator("#room_name")).toHaveText("Room: 길목");
        await page.goForward();
        await expect(page.locator("#room_name")).toHaveCount(0);
        await page.goto(`${prefix}/chat/room/enter/nothing`);
        await page.locator(".placard a").click();
        await expect(page).toHaveURL(`${proxy.address}${prefix}/chat/room`);
        expect(await said(server, room)).toEqual(["하나", "둘"]);
        for (const cookie of await page.context().cookies()) {
          expect(cookie, cookie.name).toMatchObject({ path: prefix });
        }
        expect(proxy.strays.filter((path) => path !== "/favicon.ico")).toEqual([]);
      } finally {
        proxy.close();
      }
    });

    test("one talks where WebSocket is blocked", async ({ server, talker }) => {
      const room = await makeRoom(server, "뒷길");
      const proxy = await Prefix.before(server.address, { prefix, strips });
      proxy.hasWebSocket = false;
      try {
        const guest = await talker("영희", { at: proxy.address });
        await guest.page.goto(`${prefix}${path(room)}`);
        await guest.is("detour");
        await guest.say("돌아서");
        await guest.allStored(1);
        expect(await said(server, room)).toEqual(["돌아서"]);
        expect(proxy.strays).toEqual([]);
      } finally {
        proxy.close();
      }
    });
  });
}
