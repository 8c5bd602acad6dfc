import type { Browser } from "@playwright/test";

import { makeRoom, seed, type Room } from "../support/api.ts";
import type { Cut } from "../support/cut.ts";
import type { Server } from "../support/server.ts";
import type { Talker } from "../support/talker.ts";
import { expect, SOCKET_LOST, test } from "../support/test.ts";

test.use({ provoked: SOCKET_LOST, options: ["--message-rate", "0"] });
test.describe.configure({ timeout: 180_000 });

const SOON_MS = 2_000;

const texts = (count: number, from = 1) => Array.from({ length: count }, (_, index) => `메시지 ${from + index}`);

/** Somebody reads; then their network is gone while so much is said, and comes back. */
async function miss(
  count: number,
  { browser, server, cut, guest, room }: { browser: Browser; server: Server; cut: Cut; guest: Talker; room: Room },
): Promise<void> {
  cut.cut();
  await guest.is("offline");
  await seed(browser, server, room, "철수", texts(count));
  await cut.join();
  const back = Date.now();
  await guest.page.evaluate(() => dispatchEvent(new Event("online")));
  const newest = guest.bubbles.filter({ hasText: new RegExp(`^메시지 ${count}$`) });
  await expect(newest).toBeInViewport({ timeout: SOON_MS });
  console.log(`the newest of ${count} was there after ${Date.now() - back} ms`);
  await guest.is("online");
}

for (const count of [1_500, 50_000]) {
  test(`after ${count} missed messages the newest are there at once, and the rest on demand`, async ({
    browser,
    server,
    cut,
    talker,
  }) => {
    const room = await makeRoom(server, "오랜만");
    await seed(browser, server, room, "철수", ["어제의 말"]);
    const guest = await (await talker("영희", { at: cut.address })).enter(room);
    await guest.sees(["어제의 말"]);
    await miss(count, { browser, server, cut, guest, room });

    // What follows what was there, then the gap, then the newest.
    const gap = guest.page.locator("#messageArea .gap");
    const shown = async () => (await guest.bubbles.allTextContents()).map((text) => Number(text.slice(4)) || 0);
    await expect(gap).toHaveText(new RegExp(`^메시지 ${count - 200 - 50}개를 건너뛰었습니다`));
    expect(await shown()).toEqual([0, ...range(1, 200), ...range(count - 49, count)]);

    // From its newest end: what stands below keeps its place, and the button the focus.
    const fromNewest = gap.getByRole("button", { name: "최근 것부터 불러오기" });
    await fromNewest.focus();
    const below = guest.bubbles.filter({ hasText: new RegExp(`^메시지 ${count - 49}$`) });
    const before = (await below.boundingBox())?.y;
    await fromNewest.press("Enter");
    await expect(gap).toContainText(`메시지 ${count - 450}개`);
    expect(await shown()).toEqual([0, ...range(1, 200), ...range(count - 249, count)]);
    expect((await below.boundingBox())?.y).toBeCloseTo(before ?? Number.NaN, 0);
    await expect(fromNewest).toBeFocused();

    // From its oldest end.
    const fromOldest = gap.getByRole("button", { name: "이어지는 것부터 불러오기" });
    await polite(guest);
    await fromOldest.press("Enter");
    await expect(gap).toContainText(`메시지 ${count - 650}개`);
    expect(await shown()).toEqual([0, ...range(1, 400), ...range(count - 249, count)]);
    await expect(fromOldest).toBeFocused();
    await polite(guest);
    await seed(browser, server, room, "철수", ["새로 온 말"]);
    await expect(guest.bubbles.last()).toHaveText("새로 온 말");
  });
}

test("a gap is filled to its end with the keyboard alone", async ({ browser, server, cut, talker }) => {
  const room = await makeRoom(server, "사이");
  await seed(browser, server, room, "철수", ["어제의 말"]);
  const guest = await (await talker("Lena", { at: cut.address, locale: "en-US" })).enter(room);
  await miss(700, { browser, server, cut, guest, room });
  const gap = guest.page.locator("#messageArea .gap");
  await expect(gap).toContainText("450 messages were passed over");
  const load = gap.getByRole("button", { name: "Load the last of them" });
  await load.focus();
  for (const left of [250, 50]) {
    await load.press("Enter");
    await expect(gap).toContainText(`${left} messages`);
    await polite(guest);
    await expect(load).toBeFocused();
  }
  await load.press("Enter");
  await expect(gap).toHaveCount(0);
  await guest.sees(["어제의 말", ...texts(700)]);
  await expect(guest.page.locator(".log-scroll")).toBeFocused();
});

test("what cannot be read now is told so, beside the gap", async ({ browser, server, cut, talker }) => {
  const room = await makeRoom(server, "사이");
  await seed(browser, server, room, "철수", ["어제의 말"]);
  const guest = await (await talker("영희", { at: cut.address })).enter(room);
  await miss(300, { browser, server, cut, guest, room });
  const gap = guest.page.locator("#messageArea .gap");
  const load = gap.getByRole("button", { name: "불러오기" });
  await expect(gap).toContainText("메시지 50개");
  cut.cut();
  await guest.is("offline");
  await load.click();
  await expect(gap).toContainText("불러오지 못했습니다");
  await cut.join();
  await guest.is("online");
  await load.click();
  await expect(gap).toHaveCount(0);
  await guest.sees(["어제의 말", ...texts(300)]);
});

test("a little that was missed leaves no gap", async ({ browser, server, cut, talker }) => {
  const room = await makeRoom(server, "잠깐");
  await seed(browser, server, room, "철수", ["어제의 말"]);
  const guest = await (await talker("영희", { at: cut.address })).enter(room);
  await miss(199, { browser, server, cut, guest, room });
  await guest.sees(["어제의 말", ...texts(199)]);
  await expect(guest.page.locator("#messageArea .gap")).toHaveCount(0);
});

test("1,500 messages that come at once are drawn together", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "소나기");
  const guest = await (await talker("영희")).enter(room);
  await guest.page.evaluate(() => {
    const seen = { drawn: 0, longest: 0, last: performance.now() };
    (window as any).seen = seen;
    new MutationObserver(() => seen.drawn++).observe(document.querySelector("#messageArea")!, { childList: true });
    setInterval(() => {
      const now = performance.now();
      seen.longest = Math.max(seen.longest, now - seen.last);
      seen.last = now;
    }, 10);
  });
  await seed(browser, server, room, "철수", texts(1_500));
  await expect(guest.bubbles.last()).toHaveText("메시지 1500");
  await expect(guest.bubbles).toHaveCount(1_500);
  const { drawn, longest } = await guest.page.evaluate(() => (window as any).seen);
  console.log(`drawn ${drawn} times, the page stood still for ${Math.round(longest)} ms`);
  expect(drawn).toBeLessThan(30);
});

test("who reads further up keeps what they read, however much comes", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "위에서");
  await seed(browser, server, room, "철수", texts(50));
  const guest = await (await talker("영희")).enter(room);
  const first = guest.bubbles.first();
  await first.scrollIntoViewIfNeeded();
  const before = (await first.boundingBox())?.y;
  await seed(browser, server, room, "철수", texts(2_500, 51));
  await expect(guest.bubbles.last()).toHaveText("메시지 2550");
  await expect(first).toHaveText("메시지 1");
  // The browser rounds where it holds on to it.
  const moved = ((await first.boundingBox())?.y ?? Number.NaN) - (before ?? Number.NaN);
  expect(Math.abs(moved)).toBeLessThan(2);
  await expect(guest.page.locator("#messageArea .gap")).toHaveCount(1);
  await guest.page.getByRole("button", { name: "새 메시지" }).click();
  await expect(guest.bubbles.last()).toBeInViewport();
});

/** What was filled in is not read out as new, and what comes then is. */
async function polite({ page }: Talker): Promise<void> {
  await expect(page.locator("#messageArea")).toHaveAttribute("aria-live", "polite");
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}
