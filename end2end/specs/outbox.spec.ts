import type { Page, WebSocketRoute } from "@playwright/test";

import { makeRoom, messages, said, type Room } from "../support/api.ts";
import type { Server } from "../support/server.ts";
import { Talker } from "../support/talker.ts";
import { expect, SOCKET_LOST, test } from "../support/test.ts";

/** Lets nothing out of a page from now on, until it is told otherwise; and notes what goes out then. */
async function hold(page: Page): Promise<{ release: () => void; sent: string[] }> {
  let held = true;
  const sent: string[] = [];
  await page.context().routeWebSocket("**/ws/chat", (socket: WebSocketRoute) => {
    const server = socket.connectToServer();
    socket.onMessage((data) => {
      const frame = String(data);
      if (held && frame.startsWith("SEND") && frame.includes("TALK")) {
        return;
      }
      sent.push(...(/"message":"([^"]*)"/.exec(frame)?.slice(1) ?? []));
      server.send(data);
    });
  });
  return { release: () => (held = false), sent };
}

async function waiting(talker: Talker, texts: string[]): Promise<void> {
  await expect(talker.own.and(talker.page.locator("[data-state=sending]")).locator(".bubble")).toHaveText(texts);
}

/** What the browser keeps of a room. */
function kept(page: Page): Promise<number> {
  return page.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith("outbox/")).length);
}

async function stored(server: Server, room: Room, texts: string[]): Promise<void> {
  await expect.poll(() => said(server, room)).toEqual(texts);
  const talks = (await messages(server, room)).filter(({ type }) => type === "TALK");
  expect(new Set(talks.map(({ id }) => id)).size).toBe(texts.length);
}

const texts = ["하나", "둘\n줄", "셋 \"<b>\""];

for (const [how, back] of [
  ["a reload", async (page: Page) => (await page.reload(), page)],
  [
    "a closed tab",
    async (page: Page) => {
      const context = page.context();
      const address = page.url();
      await page.close();
      const next = await context.newPage();
      await next.goto(address);
      return next;
    },
  ],
  [
    "a crash of the tab",
    async (page: Page) => {
      const context = page.context();
      const address = page.url();
      const crashed = page.waitForEvent("crash");
      page.goto("chrome://crash").catch(() => {});
      await crashed;
      const next = await context.newPage();
      await next.goto(address);
      return next;
    },
  ],
] as const) {
  test(`what waits outlives ${how}, and goes out once and in its order`, async ({ server, talker }) => {
    const room = await makeRoom(server, "부치지 못한 편지");
    const reader = await (await talker("철수")).enter(room);
    const guest = await talker("영희");
    const line = await hold(guest.page);
    await guest.enter(room);
    for (const text of texts) {
      await guest.say(text);
    }
    await waiting(guest, texts);
    expect(await kept(guest.page)).toBe(3);
    const again = new Talker(await back(guest.page), "영희");
    await waiting(again, texts);
    line.release();
    await again.page.reload();
    await again.allStored(3);
    await again.is("online");
    await again.say("넷");
    await again.allStored(4);
    await reader.sees([...texts, "넷"]);
    await stored(server, room, [...texts, "넷"]);
    expect(await kept(again.page)).toBe(0);
  });
}

test.describe("with no network", () => {
  test.use({ provoked: SOCKET_LOST });

  test("of three tabs one takes what another has left, and nothing is shown twice", async ({
    server,
    talker,
  }) => {
    const room = await makeRoom(server, "세 탭");
    const first = await talker("영희");
    const line = await hold(first.page);
    await first.enter(room);
    const others = [1, 2].map(async () => new Talker(await first.page.context().newPage(), "영희").enter(room));
    const [second, third] = await Promise.all(others);
    await first.say("하나");
    await first.say("둘");
    await waiting(first, ["하나", "둘"]);
    // Whose tab is there keeps what is its own.
    await first.page.waitForTimeout(6_000);
    await waiting(first, ["하나", "둘"]);
    await second.sees([]);
    line.release();
    await first.page.close();
    for (const tab of [second, third]) {
      await tab.sees(["하나", "둘"]);
      await tab.allStored(2);
    }
    await stored(server, room, ["하나", "둘"]);
    expect(line.sent).toEqual(["하나", "둘"]);
    expect(await kept(second.page)).toBe(0);
  });

  test("what waits goes out though only the list of rooms is opened", async ({ server, cut, talker }) => {
    const room = await makeRoom(server, "두고 온 말");
    const reader = await (await talker("철수")).enter(room);
    const guest = await (await talker("영희", { at: cut.address })).enter(room);
    cut.cut();
    await guest.is("offline");
    await guest.say("이따 갈게요");
    await waiting(guest, ["이따 갈게요"]);
    const context = guest.page.context();
    await guest.page.close();
    await cut.join();
    const later = new Talker(await context.newPage(), "영희");
    await later.list();
    await reader.sees(["이따 갈게요"]);
    await expect.poll(() => kept(later.page)).toBe(0);
  });

  test("what was stored, but not acknowledged, is not sent a second time", async ({ server, cut, talker }) => {
    const room = await makeRoom(server, "받았어요?");
    const guest = await talker("영희");
    await guest.page.routeWebSocket("**/ws/chat", (socket) => {
      const server = socket.connectToServer();
      // Neither the RECEIPT nor the MESSAGE comes.
      server.onMessage((data) => (/talk-|TALK/.test(String(data)) ? undefined : socket.send(data)));
    });
    await guest.enter(room);
    await guest.say("한 번만");
    await stored(server, room, ["한 번만"]);
    await waiting(guest, ["한 번만"]);
    await guest.page.unrouteAll();
    await guest.page.reload();
    await guest.allStored(1);
    await guest.sees(["한 번만"]);
    await stored(server, room, ["한 번만"]);
    await expect.poll(() => kept(guest.page)).toBe(0);
  });
});

for (const [what, close] of [
  ["full", () => (Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); })],
  [
    "closed to us",
    () =>
      Object.defineProperty(window, "localStorage", {
        get() {
          throw new DOMException("denied", "SecurityError");
        },
      }),
  ],
] as const) {
  test(`where the storage is ${what} the browser asks before something is lost, and only then`, async ({
    server,
    talker,
  }) => {
    const room = await makeRoom(server, "비밀 창");
    const guest = await talker("영희");
    await guest.page.addInitScript(close);
    const line = await hold(guest.page);
    const asked: string[] = [];
    guest.page.on("dialog", (dialog) => {
      asked.push(dialog.type());
      void dialog.dismiss().catch(() => {});
    });
    await guest.enter(room);
    if (await guest.dialog.isVisible()) {
      await guest.name.fill("영희");
      await guest.name.press("Enter");
    }
    line.release();
    await guest.say("간다");
    await guest.allStored(1);
    await guest.page.reload();
    expect(asked).toEqual([]);
    const held = await hold(guest.page);
    void held;
    await guest.page.reload();
    await guest.is("online");
    if (await guest.dialog.isVisible()) {
      await guest.name.fill("영희");
      await guest.name.press("Enter");
    }
    await guest.say("아직");
    await waiting(guest, ["아직"]);
    await guest.page.close({ runBeforeUnload: true });
    await expect.poll(() => asked).toEqual(["beforeunload"]);
    await waiting(guest, ["아직"]);
  });
}

test("where it is kept the browser does not ask", async ({ server, talker }) => {
  const room = await makeRoom(server, "적어 두었다");
  const guest = await talker("영희");
  await hold(guest.page);
  const asked: string[] = [];
  guest.page.on("dialog", (dialog) => {
    asked.push(dialog.type());
    void dialog.accept().catch(() => {});
  });
  await guest.enter(room);
  await guest.say("아직");
  await waiting(guest, ["아직"]);
  await guest.page.close({ runBeforeUnload: true });
  await expect.poll(() => guest.page.isClosed()).toBe(true);
  expect(asked).toEqual([]);
});

/** Refuses every TALK of a page in the server's place until it is told otherwise. */
async function refuse(page: Page, status = 422): Promise<() => void> {
  let refuses = true;
  await page.routeWebSocket("**/ws/chat", (socket: WebSocketRoute) => {
    const server = socket.connectToServer();
    socket.onMessage((data) => {
      const receipt = /^receipt:(talk-.*)$/m.exec(String(data))?.[1];
      if (receipt === undefined || !refuses) {
        server.send(data);
        return;
      }
      const problem = { title: "refused", status, detail: "`message` is odd", receiptId: receipt };
      socket.send(
        `MESSAGE\nsubscription:errors\nmessage-id:1\ndestination:/user/queue/errors\n\n${JSON.stringify(problem)}\0`,
      );
    });
  });
  return () => (refuses = false);
}

test("what was refused outlives a reload, and can be edited, sent again or dropped", async ({ server, talker }) => {
  const room = await makeRoom(server, "거절");
  const guest = await talker("영희");
  const accept = await refuse(guest.page);
  await guest.enter(room);
  const button = (text: string, name: string) =>
    guest.page.locator("[data-state=failed]").filter({ hasText: text }).getByRole("button", { name });
  const failed = guest.page.locator("#messageArea [data-state=failed] .bubble");
  for (const text of ["하나", "둘", "셋"]) {
    await guest.say(text);
    await expect(failed.last()).toHaveText(text);
  }
  accept();
  await guest.page.reload();
  await expect(failed).toHaveText(["하나", "둘", "셋"]);
  await expect(guest.own.first()).toContainText("내용을 받아들일 수 없습니다");
  await expect(guest.own.first()).toContainText("`message` is odd");
  await guest.is("online");

  await button("셋", "지우기").press("Enter");
  await expect(failed).toHaveText(["하나", "둘"]);
  await expect(guest.input).toBeFocused();

  // What one is writing is not destroyed.
  await guest.input.fill("쓰던 글");
  await button("하나", "고치기").click();
  await expect(guest.input).toHaveValue("하나\n쓰던 글");
  await expect(guest.input).toBeFocused();
  await expect(failed).toHaveText(["둘"]);
  await guest.say("하나, 고쳐서");

  await button("둘", "다시 보내기").click();
  await guest.allStored(2);
  await guest.sees(["하나, 고쳐서", "둘"]);
  await stored(server, room, ["하나, 고쳐서", "둘"]);
  await guest.page.reload();
  await guest.sees(["하나, 고쳐서", "둘"]);
  expect(await kept(guest.page)).toBe(0);
});

test("what was refused is there when one comes back from the list", async ({ server, talker }) => {
  const room = await makeRoom(server, "거절");
  const guest = await talker("영희", { locale: "en-US" });
  await refuse(guest.page);
  await guest.enter(room);
  await guest.say("하나");
  await expect(guest.own).toHaveAttribute("data-state", "failed");
  await guest.page.locator("a.brand").click();
  await guest.rooms.first().click();
  await expect(guest.own).toHaveAttribute("data-state", "failed");
  await guest.page.getByRole("button", { name: "Edit" }).click();
  await expect(guest.input).toHaveValue("하나");
  await expect(guest.own).toHaveCount(0);
});

test("only so much may wait, and the writer is told", async ({ server, talker }) => {
  test.setTimeout(120_000);
  const room = await makeRoom(server, "꽉 찼다");
  const guest = await talker("영희");
  const line = await hold(guest.page);
  await guest.enter(room);
  await guest.page.evaluate(() => {
    const field = document.querySelector<HTMLTextAreaElement>("#messageInput")!;
    for (let n = 0; n < 200; n++) {
      field.value = `${n}`;
      field.form!.requestSubmit();
    }
  });
  await expect(guest.own).toHaveCount(200);
  await guest.say("하나 더");
  await expect(guest.page.locator("#messageWrong")).toContainText("너무 많습니다");
  await expect(guest.input).toHaveValue("하나 더");
  await expect(guest.own).toHaveCount(200);
  line.release();
  await guest.page.reload();
  await expect.poll(() => kept(guest.page), { timeout: 60_000 }).toBe(0);
  await guest.say("하나 더");
  await expect(guest.bubbles.last()).toHaveText("하나 더");
  await expect.poll(async () => (await said(server, room)).at(-1)).toBe("하나 더");
});

test("what waits goes out under the name that one has by then", async ({ server, talker }) => {
  const room = await makeRoom(server, "새 이름");
  const guest = await talker("영희");
  const line = await hold(guest.page);
  await guest.enter(room);
  await guest.say("누구게");
  await waiting(guest, ["누구게"]);
  await guest.page.evaluate(() => localStorage.setItem("sender", "순이"));
  line.release();
  await guest.page.reload();
  await guest.allStored(1);
  const talk = (await messages(server, room)).find(({ type }) => type === "TALK");
  expect(talk).toMatchObject({ sender: "순이", message: "누구게" });
});
