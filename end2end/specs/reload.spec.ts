import { makeRoom, seed } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import { path } from "../support/talker.ts";

const texts = Array.from({ length: 120 }, (_, index) => `메시지 ${index + 1}`);
const last50 = texts.slice(-50);

test("the last 50 messages are in the page before any script", async ({ browser, server }) => {
  const room = await makeRoom(server, "기록");
  await seed(browser, server, room, "철수", texts);
  const page = await (await fetch(server.address + path(room))).text();
  // The rest is a copy of the same.
  const [html = ""] = page.split("<script id=");
  const bubbles = [...html.matchAll(/class="bubble"[^>]*>([^<]*)</g)].map(([, text]) => text);
  expect(bubbles).toEqual(last50);
});

test("a reload shows everything once, at the end", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "다시 읽기");
  await seed(browser, server, room, "철수", texts);
  const guest = await (await talker("영희")).enter(room);
  await guest.sees(last50);
  await expect(guest.bubbles.last()).toBeInViewport();
  await expect(guest.bubbles.first()).not.toBeInViewport();
  await guest.say("저도 왔어요");
  await guest.allStored(1);
  for (let reload = 0; reload < 2; reload++) {
    await guest.page.reload();
    await guest.is("online");
    await expect(guest.bubbles.last()).toHaveText("저도 왔어요");
    // An entrance is a row, too: the newest 50 rows are not 50 bubbles.
    const shown = await guest.bubbles.allTextContents();
    expect(shown).toEqual([...texts, "저도 왔어요"].slice(-shown.length));
    expect(shown.length).toBeGreaterThan(40);
    await expect(guest.bubbles.last()).toBeInViewport();
    await expect(guest.own).toHaveCount(1);
  }
});

test("what comes while the page loads is not missed", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "사이에");
  await seed(browser, server, room, "철수", ["하나"]);
  const guest = await talker("영희");
  let load = () => {};
  const held = new Promise<void>((resolve) => (load = resolve));
  await guest.page.route("**/*.wasm", async (route) => {
    await held;
    await route.continue();
  });
  await guest.page.goto(path(room), { waitUntil: "commit" });
  await guest.sees(["하나"]);
  await seed(browser, server, room, "철수", ["둘", "셋"]);
  load();
  await guest.is("online");
  await guest.sees(["하나", "둘", "셋"]);
});

test("who reads further up stays there, and is told of what is new", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "위로");
  await seed(browser, server, room, "철수", texts);
  const guest = await (await talker("영희")).enter(room);
  const log = guest.page.getByRole("region", { name: "대화" });
  const newer = guest.page.getByRole("button", { name: "새 메시지" });
  await expect(newer).toBeHidden();
  await guest.bubbles.first().scrollIntoViewIfNeeded();
  await expect(guest.bubbles.last()).not.toBeInViewport();
  const before = await log.evaluate((log) => log.scrollTop);
  const top = (await guest.bubbles.first().boundingBox())?.y;
  await seed(browser, server, room, "철수", ["새로 온 말"]);
  await expect(newer).toBeVisible();
  await expect(guest.bubbles.last()).toHaveText("새로 온 말");
  await expect(guest.bubbles.last()).not.toBeInViewport();
  expect((await guest.bubbles.first().boundingBox())?.y).toBeCloseTo(top ?? Number.NaN, 0);
  expect(before).toBeLessThan(0);
  await newer.click();
  await expect(guest.bubbles.last()).toBeInViewport();
  await expect(newer).toBeHidden();
  // At the end one follows.
  await seed(browser, server, room, "철수", ["또 하나"]);
  await expect(guest.bubbles.last()).toHaveText("또 하나");
  await expect(guest.bubbles.last()).toBeInViewport();
  await expect(newer).toBeHidden();
});
