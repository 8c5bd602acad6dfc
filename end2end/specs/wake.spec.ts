import { makeRoom, said } from "../support/api.ts";
import { SOCKET_LOST, expect, test } from "../support/test.ts";
import type { Talker } from "../support/talker.ts";

test.use({ provoked: new RegExp(`${SOCKET_LOST.source}|net::ERR_`) });
test.describe.configure({ timeout: 120_000 });

/** What a browser says when the network or the reader is back. */
const WAKES = ["online", "offline", "pageshow", "visibilitychange", "resume"];

async function raise(talker: Talker, event: string): Promise<void> {
  await talker.page.evaluate((event) => {
    const target = ["visibilitychange", "resume"].includes(event) ? document : window;
    target.dispatchEvent(new Event(event));
  }, event);
}

for (const event of WAKES) {
  test(`a connection that is gone is known to be at ${event}, and a new one is there`, async ({ server, cut, talker }) => {
    const room = await makeRoom(server, "깨어나기");
    const away = await (await talker("영희", { at: cut.address })).enter(room);
    const there = await (await talker("철수")).enter(room);
    cut.stall();
    await there.say("자요?");
    await raise(away, event);
    const begin = Date.now();
    await expect(away.connection).toHaveAttribute("data-state", "catching-up", { timeout: 2_000 });
    await expect(away.connection).toBeVisible();
    await expect(away.connection).toContainText("확인하는 중");
    await away.sees(["자요?"]);
    await away.is("online");
    expect(Date.now() - begin, "ms until the truth").toBeLessThan(5_000);
    await away.say("일어났어요");
    await there.sees(["자요?", "일어났어요"]);
    await expect(there.notices).toHaveCount(2);
    expect(await said(server, room)).toEqual(["자요?", "일어났어요"]);
  });
}

test("where no network is there it is told within five seconds", async ({ server, cut, talker }) => {
  const room = await makeRoom(server, "지하");
  const away = await (await talker("영희", { at: cut.address })).enter(room);
  cut.silence();
  await raise(away, "online");
  await expect(away.connection).toHaveAttribute("data-state", "offline", { timeout: 5_000 });
  await away.say("들리나요?");
  await cut.join();
  await raise(away, "online");
  await away.is("online");
  await away.allStored(1);
});

test("a machine that slept asks, whatever clock its timers go by", async ({ server, cut, talker }) => {
  const room = await makeRoom(server, "낮잠");
  const away = await talker("영희", { at: cut.address });
  await away.page.clock.install();
  await away.enter(room);
  const there = await (await talker("철수")).enter(room);
  cut.stall();
  await there.say("자요?");
  // One clock goes on while it sleeps: the timers are late.
  await away.page.clock.fastForward(600_000);
  await expect(away.bubbles).toHaveText(["자요?"], { timeout: 5_000 });
  await away.is("online");
});

test("a clock that stands still during sleep is seen through", async ({ server, cut, talker }) => {
  const room = await makeRoom(server, "깊은 잠");
  const away = await talker("영희", { at: cut.address });
  await away.page.addInitScript(() => {
    const now = Date.now;
    Date.now = () => now() + ((window as any).sleptMs ?? 0);
  });
  await away.enter(room);
  const there = await (await talker("철수")).enter(room);
  cut.stall();
  await there.say("자요?");
  await away.page.evaluate(() => ((window as any).sleptMs = 3_600_000));
  await expect(away.bubbles).toHaveText(["자요?"], { timeout: 5_500 });
  await away.is("online");
});

test("a page that was held up for seconds, and is alive, says nothing", async ({ server, talker }) => {
  const room = await makeRoom(server, "무거운 일");
  const guest = await (await talker("영희")).enter(room);
  const there = await (await talker("철수")).enter(room);
  await guest.page.evaluate(() => {
    const connection = document.getElementById("connection")!;
    const seen = ((window as any).states = [] as string[]);
    new MutationObserver(() => seen.push(connection.dataset.state!)).observe(connection, {
      attributeFilter: ["data-state"],
    });
  });
  let sockets = 0;
  guest.page.on("websocket", () => sockets++);
  await guest.page.evaluate(() => {
    const end = performance.now() + 6_000;
    while (performance.now() < end);
  });
  for (const event of [...WAKES, ...WAKES]) {
    await raise(guest, event);
  }
  await there.say("괜찮아요?");
  await guest.sees(["괜찮아요?"]);
  await guest.page.waitForTimeout(5_000);
  expect(await guest.page.evaluate(() => (window as any).states)).toEqual([]);
  expect(sockets, "connections opened").toBe(0);
  await guest.say("네");
  await guest.allStored(1);
});

test("a stream that stands still is known at a wake, too", async ({ server, cut, talker }) => {
  const room = await makeRoom(server, "멈춘 흐름");
  cut.blockWebSocket();
  const away = await (await talker("영희", { at: cut.address })).enter(room, "detour");
  const there = await (await talker("철수")).enter(room);
  cut.silence();
  await there.say("자요?");
  await raise(away, "online");
  await expect(away.connection).toHaveAttribute("data-state", "offline", { timeout: 5_000 });
  await cut.join();
  await away.is("detour");
  await away.sees(["자요?"]);
});
