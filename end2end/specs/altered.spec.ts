import type { Page } from "@playwright/test";

import { makeRoom, seed, type Room } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import { path, type Talker } from "../support/talker.ts";

// What a fault of the program writes where it is provoked.
test.use({ provoked: /panicked at|unreachable/ });

/** What proxies, translations and extensions do to a page before its script runs, or later. */
const alterations: Record<string, () => void> = {
  "a proxy has hidden an e-mail address": () => {
    const bubble = document.querySelector(".bubble")!;
    bubble.innerHTML = '<a href="/cdn-cgi/l/email-protection"><span>[email protected]</span></a>';
  },
  "a proxy has made an address a link amid a text": () => {
    const bubble = [...document.querySelectorAll(".bubble")].at(-1)!;
    bubble.innerHTML = 'write to <a href="mailto:a@example.org">a@example.org</a>, please';
  },
  "the browser has translated every text": () => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const texts: Text[] = [];
    while (walker.nextNode()) {
      const text = walker.currentNode as Text;
      if (text.data.trim() && !text.parentElement!.closest("script, style, [translate=no]")) {
        texts.push(text);
      }
    }
    for (const text of texts) {
      const [outer, inner] = [document.createElement("font"), document.createElement("font")];
      outer.append(inner);
      text.replaceWith(outer);
      inner.append(text);
    }
  },
  "an extension has put elements into the page": () => {
    document.body.prepend(document.createElement("extension-bar"));
    document.querySelector("main")!.prepend(document.createElement("div"));
    document.querySelector("#messageInput")!.after(document.createElement("grammar-hints"));
    document.querySelector("#messageArea")!.append(document.createElement("span"));
    document.querySelector("#roomListTable")!.prepend(document.createElement("li"));
    document.querySelector("dialog")!.append("x");
  },
  "an extension has put an element beside the button": () => {
    document.querySelector(".composer-send")!.before(document.createElement("button"));
  },
  "an extension has wrapped the field": () => {
    const field = document.querySelector("#messageInput")!;
    const wrapper = document.createElement("div");
    field.replaceWith(wrapper);
    wrapper.append(field);
  },
  "comments and white space have gone": () => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_COMMENT);
    const comments: Node[] = [];
    while (walker.nextNode()) {
      comments.push(walker.currentNode);
    }
    comments.forEach((comment) => comment.parentNode!.removeChild(comment));
    document.body.normalize();
  },
  "half of the page has gone": () => {
    document.querySelector(".desk")!.remove();
  },
  "nothing is left but the script": () => {
    document.querySelectorAll("main, dialog").forEach((element) => element.remove());
  },
};

async function alterBeforeTheScript(page: Page, alter: () => void): Promise<void> {
  await page.addInitScript(`addEventListener("readystatechange", () => {
    if (document.readyState === "interactive" && location.pathname.startsWith("/chat/")) {
      (${alter})();
    }
  }, true)`);
}

/** Sends and receives, in the room and in the list. */
async function isAlive(guest: Talker, other: Talker, room: Room, before: string[]): Promise<void> {
  await guest.is("online");
  await guest.sees(before);
  await guest.say("보냅니다");
  await guest.allStored(1);
  await other.say("받습니다");
  await guest.sees([...before, "보냅니다", "받습니다"]);
  await expect(guest.rooms.filter({ hasText: room.roomName })).toContainText(/메시지 \d+개/);
}

for (const [name, alter] of Object.entries(alterations)) {
  test(`the page lives where ${name} before the script runs`, async ({ browser, server, talker }) => {
    const room = await makeRoom(server, "바뀐 방");
    const texts = ["a@example.org 로 써 주세요", "둘 <b>&amp; 셋", "마지막"];
    await seed(browser, server, room, "철수", texts);
    const other = await (await talker("민준")).enter(room);
    const guest = await talker("영희");
    await alterBeforeTheScript(guest.page, alter);
    await guest.page.addInitScript(() => {
      addEventListener("DOMContentLoaded", () => {
        new MutationObserver(() => ((window as any).drawnAt ??= performance.now())).observe(document.body, {
          childList: true,
        });
      });
    });
    await guest.enter(room);
    const drawnWithin = await guest.page.evaluate(() => {
      const resources = performance.getEntriesByType("resource") as PerformanceResourceTiming[];
      const module = resources.find(({ name }) => name.endsWith(".wasm"))!;
      return (window as any).drawnAt - module.responseEnd;
    });
    expect(drawnWithin, "milliseconds from the program's arrival until the page is drawn: some hundred on a machine at rest").toBeLessThan(3_000);
    await isAlive(guest, other, room, texts);
    await expect(guest.page.locator("main")).toHaveCount(1);
    await expect(guest.page.locator("dialog")).toHaveCount(2);
    // Elsewhere in the house, too.
    await guest.page.getByRole("link", { name: "사랑방" }).click();
    await expect(guest.page).toHaveURL(/\/chat\/room$/);
    await guest.rooms.first().click();
    await expect(guest.bubbles).toHaveCount(5);
  });
}

test("a page as it was sent is taken over, not drawn anew", async ({ browser, server, talker }) => {
  const rooms = [await makeRoom(server, "빈 방"), await makeRoom(server, 'R&D <"방">')];
  await seed(browser, server, rooms[1]!, "A&B <c>", ["<b>하나</b>", "여러\n줄\t\"따옴표\"", "x > y & z"]);
  const guest = await talker("영희");
  await guest.page.addInitScript(() => {
    addEventListener("DOMContentLoaded", () => {
      document.querySelectorAll("main, main *, dialog").forEach((element) => {
        (element as any).wasSent = true;
      });
    });
  });
  for (const locale of ["ko", "en"]) {
    for (const at of ["/chat/room", path(rooms[0]!), path(rooms[1]!)]) {
      await guest.page.goto(`${at}?lang=${locale}`);
      await guest.is("online");
      const taken = await guest.page.evaluate(() =>
        ["main", "dialog", "#connection", "#roomListTable li", ".desk"].map(
          (selector) => (document.querySelector(selector) as any).wasSent,
        ),
      );
      expect(taken, at).toEqual([true, true, true, true, true]);
    }
  }
});

test("a page that is altered between the look and the hydration is drawn anew, once", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "사이에 바뀐 방");
  await seed(browser, server, room, "철수", ["하나", "둘"]);
  const other = await (await talker("민준")).enter(room);
  const guest = await talker("영희");
  await guest.page.route(/\/sarangbang\.js$/, async (route) => {
    const body = `import start, * as client from ${JSON.stringify(`${route.request().url()}?real`)};
      export default start;
      export const draw = client.draw;
      export const hydrate = () => {
        document.querySelector(".bubble").innerHTML = "<a><span>x</span></a>";
        client.hydrate();
      };`;
    await route.fulfill({ body, contentType: "text/javascript" });
  });
  const sockets: string[] = [];
  guest.page.on("websocket", (socket) => sockets.push(socket.url()));
  await guest.enter(room);
  await isAlive(guest, other, room, ["하나", "둘"]);
  // What had begun before the fault does nothing any more.
  expect(sockets).toHaveLength(1);
  await expect(guest.notices.filter({ hasText: "영희" })).toHaveCount(1);
});

test("a page that a fault ends says so, and is loaded anew once", async ({ server, talker }) => {
  const room = await makeRoom(server, "멈춘 방");
  const guest = await (await talker("영희")).enter(room);
  /** Hydrates what cannot be hydrated: a fault amid the life of the page. */
  const fail = () =>
    guest.page.evaluate(async () => {
      const { src } = document.querySelector<HTMLScriptElement>("script[type=module]")!;
      const client = await import(src);
      document.querySelector("main")!.remove();
      try {
        client.hydrate();
      } catch {
        // As it is meant.
      }
      return document.querySelector("#connection")?.textContent;
    });
  const loaded = guest.page.waitForEvent("load");
  // What is being loaded anew may not answer any more.
  await fail().catch(() => {});
  await loaded;
  await guest.is("online");
  await guest.say("다시 왔습니다");
  await guest.allStored(1);
  await guest.page.evaluate(() => {
    (window as any).isFirst = true;
    // It stays when the page's frame goes.
    document.body.append(document.querySelector("#connection")!);
  });
  expect(await fail()).toBe("페이지가 멈췄습니다. 새로 고쳐 주세요.");
  await expect(guest.connection).toHaveAttribute("data-state", "ended");
  expect(await guest.page.evaluate(() => (window as any).isFirst)).toBe(true);
});

test("what was typed before the script runs is still there", async ({ server, talker }) => {
  for (const alter of [() => {}, alterations["an extension has put elements into the page"]!]) {
    // One each: the name of who has gone is held for a while.
    const room = await makeRoom(server, "빠른 손");
    const guest = await talker("영희");
    await alterBeforeTheScript(guest.page, alter);
    let load = () => {};
    const held = new Promise<void>((resolve) => (load = resolve));
    await guest.page.route("**/*.wasm", async (route) => {
      await held;
      await route.continue();
    });
    await guest.page.goto(path(room), { waitUntil: "commit" });
    await guest.input.pressSequentially("벌써 씁니다");
    await guest.page.keyboard.press("ArrowLeft");
    await expect(guest.connection).toHaveAttribute("data-state", "connecting");
    load();
    await guest.is("online");
    await expect(guest.input).toBeFocused();
    await expect(guest.input).toHaveValue("벌써 씁니다");
    await guest.page.keyboard.press("Backspace");
    await expect(guest.input).toHaveValue("벌써 씁다");
    await guest.page.context().close();
  }
});

test("after a later translation figures, times and states still change", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "옮긴 방");
  await seed(browser, server, room, "철수", ["하나"]);
  const other = await (await talker("민준")).enter(room);
  const guest = await (await talker("영희")).enter(room);
  await guest.page.evaluate(`(${alterations["the browser has translated every text"]})()`);
  const count = guest.rooms.filter({ hasText: "옮긴 방" }).locator(".room-count");
  await expect(count.locator("font")).not.toHaveCount(0);
  await other.say("둘");
  await guest.say("셋");
  await guest.allStored(1);
  await expect(guest.bubbles).toHaveText(["하나", "둘", "셋"]);
  await expect(count).toHaveText("메시지 3개");
  // The name beside what one says, and the reason for which one is asked.
  await guest.page.locator(".chip-name").click();
  await expect(guest.page.locator("#nameReason")).toHaveText("이제부터 쓸 이름을 적어 주세요.");
  await guest.name.fill("");
  await guest.page.locator(".name-ok").click();
  await expect(guest.page.locator("#nameWrong")).toContainText("한 글자 이상");
  await guest.name.fill("영이");
  await guest.page.locator(".name-ok").click();
  await expect(guest.page.locator(".chip-name")).toHaveText("영이");
  await server.kill9();
  await guest.is("offline");
  await expect(guest.connection).toContainText("연결이 끊겼습니다");
  await server.restart();
  await guest.is("online");
  await expect(guest.connection).toHaveText("연결되었습니다");
});

test("names are not to be translated, and pages not to be rewritten on their way", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "이름들");
  await seed(browser, server, room, "철수", ["하나"]);
  const guest = await (await talker("영희")).enter(room);
  await expect(guest.notices).toHaveCount(1);
  const isolated = await guest.page.locator("bdi").count();
  expect(isolated).toBeGreaterThan(4);
  await expect(guest.page.locator("bdi[translate=no]")).toHaveCount(isolated);
  for (const at of ["/chat/room", path(room), "/nowhere", "/chat/room/enter/7"]) {
    const response = await fetch(server.address + at);
    expect(response.headers.get("cache-control"), at).toContain("no-transform");
  }
});
