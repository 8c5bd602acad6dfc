import {
  expect,
  test as base,
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  type LaunchOptions,
} from "@playwright/test";

import { Cut } from "./cut.ts";
import { Server } from "./server.ts";
import { Talker } from "./talker.ts";

export { expect };

/** How Chromium is started: `CHROMIUM` names it, else it is Playwright's own. */
export const chromium: LaunchOptions = {
  executablePath: process.env.CHROMIUM || undefined,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
};

/** What browsers say of a socket that breaks or does not open: for tests that break it. */
export const SOCKET_LOST = /WebSocket connection to .* failed|net::ERR_CONNECTION_REFUSED/;

/** What browsers say of a page, or an answer of the room API, that is an error. */
export const ERROR_ANSWER = /Failed to load resource: the server responded with a status of (404|422)/;

export interface Options {
  /** The errors in the browser's console that a test provokes; any other fails it. */
  provoked: RegExp | undefined;
  /** Options of the server's program. */
  options: string[];
}

interface Fixtures {
  /** A server of this test's own. */
  server: Server;
  /** A way to the server that can be cut. */
  cut: Cut;
  /** Everything that went wrong in a page of this test. */
  troubles: Troubles;
  /** Opens a browser of its own for somebody; with a name, it is one remembered from before. */
  talker: (name?: string, options?: TalkerOptions) => Promise<Talker>;
}

export interface TalkerOptions extends BrowserContextOptions {
  /** Where the pages are, when they are not asked from the server itself. */
  at?: string;
  /** What `localStorage` holds as the name, if anything: a talker's name unless given. */
  remembered?: string;
}

/** Gathers page errors, console errors and violations of the content security policy. */
export class Troubles {
  readonly seen: string[] = [];

  constructor(private readonly provoked: RegExp | undefined) {}

  async watch(context: BrowserContext): Promise<void> {
    context.on("weberror", (event) => this.note(`page error: ${event.error()}`));
    context.on("console", (message) => {
      if (message.type() === "error") {
        this.note(`console: ${message.text()} (${message.location().url})`);
      }
    });
    await context.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) =>
        console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI}`),
      );
    });
  }

  private note(trouble: string): void {
    if (!this.provoked?.test(trouble)) {
      this.seen.push(trouble);
    }
  }
}

export const test = base.extend<Fixtures & Options>({
  provoked: [undefined, { option: true }],
  options: [[], { option: true }],

  server: async ({ options }, use, info) => {
    const server = await Server.start(options);
    await use(server);
    const code = server.isRunning ? await server.stop() : 0;
    await server.remove();
    if (info.status !== info.expectedStatus) {
      await info.attach("server log", { body: server.log.join("\n"), contentType: "text/plain" });
    }
    expect(code, `exit code of the server\n${server.log.join("\n")}`).toBe(0);
    expect(server.log.filter((line) => line.includes("panicked"))).toEqual([]);
  },

  cut: async ({ server }, use) => {
    const cut = await Cut.before(server.address);
    await use(cut);
    cut.close();
  },

  troubles: async ({ provoked }, use) => {
    const troubles = new Troubles(provoked);
    await use(troubles);
    expect(troubles.seen, "errors in the browser").toEqual([]);
  },

  baseURL: async ({ server }, use) => use(server.address),

  context: async ({ context, troubles }, use) => {
    await troubles.watch(context);
    await use(context);
  },

  talker: async ({ browser, server, troubles }, use) => {
    const contexts: BrowserContext[] = [];
    await use(async (name = "", options = {}) => {
      const context = await open(browser, server.address, name, options);
      contexts.push(context);
      await troubles.watch(context);
      return new Talker(await context.newPage(), name);
    });
    await Promise.all(contexts.map((context) => context.close()));
  },
});

async function open(browser: Browser, server: string, name: string, options: TalkerOptions) {
  const { at = server, remembered = name || undefined, ...context } = options;
  const localStorage = remembered === undefined ? [] : [{ name: "sender", value: remembered }];
  return browser.newContext({
    ...context,
    baseURL: at,
    storageState: { cookies: [], origins: [{ origin: at, localStorage }] },
  });
}
