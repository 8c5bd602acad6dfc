import type { Locator } from "@playwright/test";

import { makeRoom, seed } from "../support/api.ts";
import { expect, test } from "../support/test.ts";

const texts = Array.from({ length: 120 }, (_, index) => `메시지 ${index + 1}`);

async function top(bubble: Locator): Promise<number> {
  return (await bubble.boundingBox())?.y ?? Number.NaN;
}

// Chromium holds what one reads by itself; without that it is as WebKit is.
for (const isHeldByBrowser of [true, false]) {
  test(`what one reads stays where it is, ${isHeldByBrowser ? "by the browser" : "by hand"}`, async ({
    browser,
    server,
    talker,
  }) => {
    const room = await makeRoom(server, "읽는 중");
    await seed(browser, server, room, "철수", texts);
    const guest = await talker("영희");
    if (!isHeldByBrowser) {
      await guest.page.addInitScript(() => {
        const supports = CSS.supports.bind(CSS);
        CSS.supports = (...asked: [string, string?]) =>
          !asked.join().includes("overflow-anchor") && supports(...(asked as [string, string]));
        addEventListener("DOMContentLoaded", () => {
          const style = new CSSStyleSheet();
          style.replaceSync("* { overflow-anchor: none !important; }");
          document.adoptedStyleSheets = [style];
        });
      });
    }
    await guest.enter(room);
    const log = guest.page.locator(".log-scroll");
    const newer = guest.page.getByRole("button", { name: "새 메시지" });
    await log.evaluate((log) => log.scrollTo(0, -900));
    const read = guest.bubbles.filter({ hasText: /^메시지 10[0-9]$/ }).first();
    await expect(read).toBeInViewport();
    await guest.page.waitForTimeout(100);
    let at = await top(read);
    const stays = async (why: string) => {
      await guest.page.waitForTimeout(100);
      expect(Math.abs((await top(read)) - at), why).toBeLessThan(1.5);
    };

    await seed(browser, server, room, "철수", ["새로 온 말", "여러\n줄의\n말"]);
    await expect(guest.bubbles.last()).toHaveText(/여러/);
    await expect(newer).toBeVisible();
    await stays("new messages");

    // Scrolled in the same moment as something comes.
    await log.evaluate((log) => log.scrollBy(0, 40));
    await seed(browser, server, room, "민지", ["또 하나"]);
    await expect(guest.bubbles.last()).toHaveText("또 하나");
    at -= 40;
    await stays("new messages while one scrolls");

    const grow = (bubble: Locator, height: string) =>
      bubble.evaluate((element: HTMLElement, height) => (element.style.minHeight = height), height);
    await grow(guest.bubbles.last(), "300px");
    await stays("a bubble below that grows");
    await grow(guest.bubbles.last(), "");
    await stays("and shrinks");
    await grow(guest.bubbles.filter({ hasText: /^메시지 80$/ }), "300px");
    await stays("a bubble above that grows");

    await guest.input.fill("여러 줄\n".repeat(4));
    await guest.input.fill("");
    await stays("the composer that grows and shrinks");

    // What was said earlier is put in above.
    const shown = await guest.bubbles.count();
    await log.evaluate((log) => log.scrollTo(0, -(log.scrollHeight - log.clientHeight - 300)));
    const oldest = guest.bubbles.nth(6);
    const text = (await oldest.textContent())!;
    const same = guest.bubbles.filter({ hasText: new RegExp(`^${text}$`) });
    const before = await top(same);
    await expect.poll(() => guest.bubbles.count()).toBeGreaterThan(shown);
    await guest.page.waitForTimeout(100);
    expect(Math.abs((await top(same)) - before), "earlier messages").toBeLessThan(1.5);

    // At the end one follows, also where one is a little above it.
    await newer.click();
    await expect(guest.bubbles.last()).toBeInViewport();
    await log.evaluate((log) => log.scrollTo(0, -30));
    await seed(browser, server, room, "철수", ["마지막"]);
    await expect(guest.bubbles.last()).toHaveText("마지막");
    await expect(guest.bubbles.last()).toBeInViewport({ ratio: 1 });
    await expect(newer).toBeHidden();
  });
}
