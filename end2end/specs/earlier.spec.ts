import { makeRoom, seed, type Message, type Room } from "../support/api.ts";
import { expect, SOCKET_LOST, test } from "../support/test.ts";

test.use({ provoked: SOCKET_LOST });

const texts = Array.from({ length: 170 }, (_, index) => `메시지 ${index + 1}`);

test("whoever scrolls up reads the room to its beginning, and stays where they read", async ({
  browser,
  server,
  talker,
}) => {
  const room = await makeRoom(server, "옛이야기");
  await seed(browser, server, room, "철수", texts);
  const guest = await (await talker("영희")).enter(room);
  const there = await (await talker("철수")).enter(room);
  await guest.sees(texts.slice(-50));
  const log = guest.page.locator(".log-scroll");
  const first = guest.bubbles.first();
  for (const shown of [100, 150, 170]) {
    const before = guest.bubbles.filter({ hasText: new RegExp(`^${texts.at(50 - shown)}$`) });
    await first.scrollIntoViewIfNeeded();
    await expect(guest.bubbles).toHaveCount(shown);
    await expect(before).toBeVisible();
    // Not thrown to the beginning of what has come, and not read out as new.
    await expect(first).not.toBeInViewport();
    await expect(guest.page.locator("#messageArea")).toHaveAttribute("aria-live", "polite");
  }
  await guest.sees(texts);
  await expect(guest.page.getByRole("button", { name: "이전 메시지 보기" })).toBeHidden();
  await expect(guest.page.getByRole("button", { name: "새 메시지" })).toBeHidden();

  await log.evaluate((element) => element.scrollTo(0, -element.scrollHeight));
  await expect(first).toBeInViewport();
  await there.say("아직 거기 있어요?");
  await guest.sees([...texts, "아직 거기 있어요?"]);
  await expect(first).toBeInViewport();
  await guest.page.getByRole("button", { name: "새 메시지" }).click();
  await expect(guest.bubbles.last()).toBeInViewport();
});

test("the keyboard reaches what was said earlier; what cannot be read now is told so", async ({
  browser,
  server,
  cut,
  talker,
}) => {
  const room = await makeRoom(server, "옛이야기");
  await seed(browser, server, room, "철수", texts.slice(0, 60));
  const guest = await (await talker("영희", { locale: "en-US", at: cut.address })).enter(room);
  const earlier = guest.page.getByRole("button", { name: "Earlier messages" });
  cut.cut();
  await guest.is("offline");
  await earlier.focus();
  await guest.page.keyboard.press("Enter");
  await expect(guest.page.getByRole("alert").filter({ hasText: "could not be loaded" })).toBeVisible();
  await expect(guest.bubbles).toHaveCount(50);
  await cut.join();
  await guest.is("online");
  await earlier.press("Enter");
  await guest.sees(texts.slice(0, 60));
  await expect(earlier).toBeHidden();
  await expect(guest.page.getByRole("alert").filter({ hasText: "could not be loaded" })).toBeHidden();
  await expect(guest.page.locator(".log-scroll")).toBeFocused();
});

test("a short room has nothing earlier to ask for", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "짧은 방");
  await seed(browser, server, room, "철수", ["하나"]);
  const guest = await (await talker("영희")).enter(room);
  await guest.sees(["하나"]);
  await expect(guest.page.getByRole("button", { name: "이전 메시지 보기" })).toBeHidden();
});

test("a name that the page would not take is shown with a stand-in, and the rest with it", async ({
  browser,
  server,
  talker,
}) => {
  const room = await makeRoom(server, "옛이야기");
  await seed(browser, server, room, "철수", texts.slice(0, 60));
  const other = await makeRoom(server, "다른 방");
  const guest = await talker("영희");
  await guest.page.route("**/chat/rooms?*", async (route) => {
    const rooms = (await (await route.fetch()).json()) as Room[];
    const renamed = { ...other, roomId: crypto.randomUUID(), roomName: "\u2800" };
    await route.fulfill({ json: [renamed, ...rooms] });
  });
  await guest.enter(room);
  await expect(guest.rooms).toHaveCount(3);
  await expect(guest.rooms.filter({ hasText: "\uFFFD" })).toHaveCount(1);
  const answers = guest.page.waitForResponse((response) => response.url().includes("before="));
  await guest.page.route("**/messages?before=*", async (route) => {
    const earlier = (await (await route.fetch()).json()) as Message[];
    await route.fulfill({ json: earlier.map((message) => ({ ...message, sender: "\u2800" })) });
  });
  await guest.bubbles.first().scrollIntoViewIfNeeded();
  await answers;
  await guest.sees(texts.slice(0, 60));
  await expect(guest.page.locator("#messageArea").getByText("\uFFFD").first()).toBeVisible();
});
