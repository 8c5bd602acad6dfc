import { makeRoom, said } from "../support/api.ts";
import { SOCKET_LOST, expect, test } from "../support/test.ts";
import type { Page } from "@playwright/test";

test.use({ provoked: new RegExp(`${SOCKET_LOST.source}|net::ERR_`) });
test.describe.configure({ timeout: 120_000 });

/** Gathers the states of the page's connection from now on. */
async function states(page: Page): Promise<() => Promise<string[]>> {
  await page.evaluate(() => {
    const connection = document.getElementById("connection")!;
    const seen = ((window as any).states = [connection.dataset.state]);
    new MutationObserver(() => seen.push(connection.dataset.state)).observe(connection, {
      attributeFilter: ["data-state"],
    });
  });
  return () => page.evaluate(() => (window as any).states);
}

test("a WebSocket that opens and carries nothing is none, now and later", async ({ server, cut, talker }) => {
  const room = await makeRoom(server, "열리기만 하는 길");
  cut.holdWebSocket();
  const office = await talker("영희", { at: cut.address });
  const opened: string[] = [];
  office.page.on("websocket", (socket) => opened.push(socket.url()));
  const begin = Date.now();
  await office.enter(room, "detour");
  expect(Date.now() - begin, "ms until it went over the stream").toBeLessThan(9_000);
  const home = await (await talker("철수")).enter(room);
  await office.say("사무실입니다");
  await home.sees(["사무실입니다"]);
  // It is tried again, opens, and is not gone over to.
  const seen = await states(office.page);
  await expect.poll(() => opened.length, { timeout: 20_000 }).toBe(2);
  await office.page.waitForTimeout(2_000);
  await home.say("집입니다");
  await office.sees(["사무실입니다", "집입니다"]);
  await office.page.waitForTimeout(9_000);
  expect(await seen()).toEqual(["detour"]);
  // What worked is remembered over a reload.
  await office.page.reload();
  await expect(office.connection).toHaveAttribute("data-state", "detour", { timeout: 3_000 });
  // Once it carries it is gone over to, and nobody enters anew.
  await expect(home.notices).toHaveCount(2);
  cut.holdWebSocket(false);
  const after = await states(office.page);
  await office.is("online");
  expect(await after()).toEqual(["detour", "online"]);
  await office.say("이제 빠릅니다");
  await home.say("그렇네요");
  await expect(home.bubbles).toHaveCount(4);
  await expect(office.bubbles).toHaveCount(4);
  await expect(home.notices).toHaveCount(2);
  await expect(office.dialog).not.toBeVisible();
  expect(new Set(await said(server, room)).size).toBe(4);
});

for (const [name, passes] of [
  ["from its first octet", undefined],
  ["after its beginning", /^HTTP[^]*data: o\r\n\r\n/],
  ["after CONNECTED", /^HTTP[^]*data: a\["CONNECTED[^\r]*\r\n\r\n/],
] as const) {
  test(`a stream that a proxy holds back ${name} is none`, async ({ server, cut, talker }) => {
    const room = await makeRoom(server, "고인 물");
    cut.blockWebSocket();
    cut.gather(passes);
    const office = await talker("영희", { at: cut.address });
    const polls: string[] = [];
    office.page.on("request", (request) => {
      if (/\/xhr(\?|$)/.test(request.url())) {
        polls.push(request.url());
      }
    });
    await office.page.goto(`/chat/room/enter/${room.roomId}`);
    await expect.poll(() => polls.length, { timeout: 12_000 }).toBeGreaterThan(2);
    await office.is("detour");
    const home = await (await talker("철수")).enter(room);
    const seen = await states(office.page);
    for (const n of [1, 2, 3]) {
      await home.say(`집 ${n}`);
      await expect(office.bubbles.last()).toHaveText(`집 ${n}`, { timeout: 3_000 });
      await office.say(`사무실 ${n}`);
      await expect(home.bubbles.last()).toHaveText(`사무실 ${n}`, { timeout: 3_000 });
    }
    await office.allStored(3);
    // A stream is tried beside it and not gone over to; what is quiet is not lost either.
    await office.page.waitForTimeout(35_000);
    expect((await seen()).filter((state) => state !== "detour")).toEqual([]);
    await home.say("아직 있나요?");
    await expect(office.bubbles.last()).toHaveText("아직 있나요?", { timeout: 3_000 });
    expect(await said(server, room)).toHaveLength(7);
  });
}
