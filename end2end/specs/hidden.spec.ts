import { chromium as playwright, type Browser, type CDPSession } from "@playwright/test";

import { makeRoom, seed } from "../support/api.ts";
import { chromium, expect, test } from "../support/test.ts";
import { path } from "../support/talker.ts";

const HIDDEN_FOR_MS = 5 * 60_000;

// Playwright keeps each of its pages visible and switches the throttling of timers off. So this
// browser is started without those switches, in the headless mode that has real tabs, and the page
// is a tab that Playwright does not attach to: another tab in front of it hides it as a person's
// would. Chromium then holds its timers back to one firing a minute, which the test shows first.
// It does that five minutes after a page is hidden; here after ten seconds.
const flags = ["--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/10"];
const switchedOff = [
  "--disable-background-timer-throttling",
  "--disable-backgrounding-occluded-windows",
  "--disable-renderer-backgrounding",
];

/** A tab that Playwright knows nothing of. */
class Tab {
  private replies = new Map<number, (reply: any) => void>();
  private sent = 0;
  /** The names of the events that came, each with how often. */
  readonly events = new Map<string, number>();

  private constructor(
    private readonly browser: CDPSession,
    private readonly targetId: string,
    private readonly sessionId: string,
  ) {
    browser.on("Target.receivedMessageFromTarget", (event) => {
      if (event.sessionId === sessionId) {
        this.receive(JSON.parse(event.message));
      }
    });
  }

  static async open(browser: CDPSession, browserContextId: string): Promise<Tab> {
    const { targetId } = await browser.send("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await browser.send("Target.attachToTarget", { targetId, flatten: false });
    return new Tab(browser, targetId, sessionId);
  }

  async send(method: string, params: object = {}): Promise<any> {
    const id = ++this.sent;
    const replied = new Promise<any>((resolve) => this.replies.set(id, resolve));
    const message = JSON.stringify({ id, method, params });
    await this.browser.send("Target.sendMessageToTarget", { sessionId: this.sessionId, message });
    const { result, error } = await replied;
    if (error) {
      throw new Error(`${method}: ${error.message}`);
    }
    return result;
  }

  async evaluate<T>(expression: string): Promise<T> {
    const { result } = await this.send("Runtime.evaluate", { expression, returnByValue: true });
    return result.value as T;
  }

  async toFront(): Promise<void> {
    await this.browser.send("Target.activateTarget", { targetId: this.targetId });
  }

  private receive(message: { id?: number; method?: string }): void {
    if (message.id !== undefined) {
      this.replies.get(message.id)?.(message);
    } else if (message.method !== undefined) {
      this.events.set(message.method, (this.events.get(message.method) ?? 0) + 1);
    }
  }
}

test("a page hidden for five minutes keeps its connection", async ({ browser, server }) => {
  test.setTimeout(HIDDEN_FOR_MS + 120_000);
  const room = await makeRoom(server, "뒤에 둔 방");
  const hiding: Browser = await playwright.launch({
    ...chromium,
    channel: chromium.executablePath ? undefined : "chromium",
    args: [...(chromium.args ?? []), ...flags],
    ignoreDefaultArgs: switchedOff,
  });
  try {
    const session = await hiding.newBrowserCDPSession();
    const { browserContextId } = await session.send("Target.createBrowserContext");
    const page = await Tab.open(session, browserContextId);
    const state = () => page.evaluate<string>("document.getElementById('connection')?.dataset.state ?? ''");
    const bubbles = () =>
      page.evaluate<string[]>("[...document.querySelectorAll('#messageArea .bubble')].map((b) => b.textContent)");
    await page.send("Network.enable");
    await page.send("Page.enable");
    await page.send("Page.addScriptToEvaluateOnNewDocument", {
      source: `
        localStorage.setItem("sender", "영희");
        addEventListener("DOMContentLoaded", () => {
          window.states = [];
          const connection = document.getElementById("connection");
          new MutationObserver(() => states.push(connection.dataset.state))
            .observe(connection, { attributeFilter: ["data-state"] });
        });
        window.ticks = [];
        setInterval(() => ticks.push(performance.now()), 1_000);`,
    });
    await page.send("Page.navigate", { url: server.address + path(room) });
    await expect.poll(state, { timeout: 30_000 }).toBe("online");
    expect(await page.evaluate("document.visibilityState")).toBe("visible");
    expect(page.events.get("Network.webSocketCreated")).toBe(1);

    const cover = await Tab.open(session, browserContextId);
    await cover.toFront();
    await expect.poll(() => page.evaluate("document.visibilityState")).toBe("hidden");
    await page.evaluate("states = []");
    const hiddenSince = await page.evaluate<number>("performance.now()");
    await expect
      .poll(() => page.evaluate("performance.now()"), { timeout: HIDDEN_FOR_MS + 60_000, intervals: [5_000] })
      .toBeGreaterThan(hiddenSince + HIDDEN_FOR_MS);

    const ticks = await page.evaluate<number[]>("ticks");
    const late = ticks.filter((at) => at > hiddenSince + 90_000);
    expect(late.length, "the timers were held back to one a minute").toBeLessThanOrEqual(
      Math.ceil((HIDDEN_FOR_MS - 90_000) / 60_000),
    );
    expect(await page.evaluate("document.visibilityState")).toBe("hidden");
    expect(await page.evaluate("states"), "changes of the connection").toEqual([]);
    expect(await state()).toBe("online");
    expect(page.events.get("Network.webSocketCreated"), "connections opened").toBe(1);
    expect(page.events.get("Network.webSocketClosed"), "connections closed").toBeUndefined();

    await seed(browser, server, room, "철수", ["아직 거기 있어요?"]);
    await expect.poll(bubbles).toEqual(["아직 거기 있어요?"]);
    await page.toFront();
    await expect.poll(() => page.evaluate("document.visibilityState")).toBe("visible");
    expect(await state()).toBe("online");
    expect(page.events.get("Network.webSocketCreated")).toBe(1);
  } finally {
    await hiding.close();
  }
});
