import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";

import type { Page } from "@playwright/test";

import { makeRoom, type Room } from "../support/api.ts";
import type { Server } from "../support/server.ts";
import { expect, SOCKET_LOST, test as base } from "../support/test.ts";
import { StompJs } from "./stompjs.ts";

const MESSAGES = 1_000;

const fileOf = (name: string) => fileURLToPath(new URL(`../node_modules/${name}`, import.meta.url));

/** Two generations of what pages load. */
const generations = {
  "sockjs-client 1.5.0 and stompjs 2.3.3": {
    sockjs: fileOf("sockjs-client-1.5.0/dist/sockjs.js"),
    stomp: fileOf("stompjs/lib/stomp.js"),
  },
  "sockjs-client 1.6.1 and @stomp/stompjs": {
    sockjs: fileOf("sockjs-client/dist/sockjs.js"),
    stomp: fileOf("@stomp/stompjs/bundles/stomp.umd.js"),
  },
};

interface Neighbour {
  /** The origin of pages that are not the server's. */
  origin: string;
  /** Has the neighbour's host give out a script: its address there. */
  scriptOf: (sockjs: string) => string;
}

const test = base.extend<{ neighbour: Neighbour }>({
  neighbour: async ({}, use) => {
    const scripts = new Map<string, string>();
    const house = createServer(async (request, response) => {
      const script = scripts.get(request.url!);
      response.setHeader("content-type", script ? "text/javascript" : "text/html");
      response.setHeader("access-control-allow-origin", "*");
      response.end(script ? await readFile(script) : "<!doctype html><title>next door</title>");
    });
    await new Promise<void>((resolve) => house.listen(0, "127.0.0.1", resolve));
    const origin = `http://127.0.0.1:${(house.address() as AddressInfo).port}`;
    const scriptOf = (sockjs: string) => {
      scripts.set("/sockjs.js", sockjs);
      return `${origin}/sockjs.js`;
    };
    await use({ origin, scriptOf });
    house.closeAllConnections();
    house.close();
  },

  options: async ({}, use) => use(["--message-rate", "0", "--allowed-origins", "*"]),
});

interface Visit {
  /** Where the endpoint is. */
  url: string;
  room: Room;
  /** SockJS's transports to choose from; all when empty. */
  transports: string[];
  /** How many messages the page sends. */
  count: number;
}

interface Heard {
  seq: number;
  sender: string;
  message: string;
}

declare global {
  interface Window {
    heard: Heard[];
    used: string[];
    connections: number;
    [library: string]: any;
  }
}

/** Runs in the page: speaks STOMP over SockJS as its users do, and comes back where it was. */
function visit({ url, room, transports, count }: Visit): void {
  window.heard = [];
  window.used = [];
  window.connections = 0;
  const destination = `/topic/chat/room/${room.roomId}`;
  const open = () => {
    const socket = new window.SockJS(url, null, transports.length > 0 ? { transports } : {});
    socket.addEventListener("open", () => window.used.push(socket.transport));
    return socket;
  };
  const offset = () => {
    const last = window.heard.at(-1);
    return last ? `offset=${last.seq + 1}` : "first";
  };
  const hear = ({ body }: { body: string }) => {
    const { seq, sender, message } = JSON.parse(body);
    window.heard.push({ seq, sender, message });
  };
  const talk = (number: number) =>
    JSON.stringify({ type: "TALK", roomId: room.roomId, sender: "page", message: `${number} 가😀\u2028"<\\` });
  const { StompJs, Stomp } = window;
  const connected = (subscribe: (headers: object) => void, send: (body: string) => void) => {
    window.connections += 1;
    subscribe({ "x-stream-offset": offset() });
    if (window.connections > 1) {
      return;
    }
    // What is said while a request is under way goes into the next, which is bounded: so at most so many
    // are said that have not been heard yet.
    let number = 0;
    const portion = () => {
      const heard = window.heard.filter(({ sender }) => sender === "page").length;
      for (const end = Math.min(heard + 200, count); number < end; number += 1) {
        send(talk(number));
      }
      if (number < count) {
        setTimeout(portion, 10);
      }
    };
    portion();
  };
  if (StompJs) {
    const client = new StompJs.Client({ webSocketFactory: open, reconnectDelay: 100 });
    client.onConnect = () =>
      connected(
        (headers) => client.subscribe(destination, hear, headers),
        (body) => client.publish({ destination: "/app/chat/sendMessage", body }),
      );
    client.activate();
  } else {
    const connect = () => {
      const client = Stomp.over(open());
      client.debug = () => {};
      client.connect(
        {},
        () =>
          connected(
            (headers) => client.subscribe(destination, hear, headers),
            (body) => client.send("/app/chat/sendMessage", {}, body),
          ),
        () => setTimeout(connect, 100),
      );
    };
    connect();
  }
}

/** Opens a page and loads the two libraries into it. */
async function load(page: Page, at: string, libraries: { sockjs: string; stomp: string }): Promise<void> {
  // It is no page of ours, which would name its icon.
  await page.route("**/favicon.ico", (route) => route.fulfill({ status: 204 }));
  await page.goto(at);
  await page.addScriptTag({ path: libraries.sockjs });
  await page.addScriptTag({ path: libraries.stomp });
}

/** A program that says so many things in a room. */
async function say(address: string, room: Room, count: number, first = 0): Promise<void> {
  const program = new StompJs();
  await program.connect(address);
  for (let number = first; number < first + count; number += 1) {
    const message = { type: "TALK", roomId: room.roomId, sender: "program", message: `${number}` };
    program.send("/app/chat/sendMessage", JSON.stringify(message));
  }
  await program.close();
}

/** Everything was heard, once and in order, from both. */
async function hearsAll(page: Page, counts: { page: number; program: number }): Promise<void> {
  const total = counts.page + counts.program;
  await expect.poll(() => page.evaluate(() => window.heard.length), { timeout: 45_000 }).toBe(total);
  const heard = await page.evaluate(() => window.heard);
  expect(heard.map(({ seq }) => seq)).toEqual(Array.from({ length: total }, (_, index) => index + 1));
  const from = (sender: string) => heard.filter((one) => one.sender === sender).map(({ message }) => message);
  expect(from("program")).toEqual(Array.from({ length: counts.program }, (_, number) => `${number}`));
  const said = Array.from({ length: counts.page }, (_, number) => `${number} 가😀\u2028"<\\`);
  expect(from("page")).toEqual(said);
}

const ofOurPages = ["websocket", "xhr-streaming", "eventsource", "htmlfile", "xhr-polling", "jsonp-polling"];
const ofTheNeighbours = [
  "websocket",
  "xhr-streaming",
  "xhr-polling",
  "iframe-eventsource",
  "iframe-htmlfile",
  "iframe-xhr-polling",
  "jsonp-polling",
];

for (const [name, libraries] of Object.entries(generations)) {
  test.describe(name, () => {
    for (const transport of ofOurPages) {
      test(`${transport} carries ${MESSAGES} messages each way`, async ({ page, server }) => {
        const room = await makeRoom(server, transport);
        await load(page, `${server.address}/healthz`, libraries);
        const url = `${server.address}/ws/chat`;
        await page.evaluate(visit, { url, room, transports: [transport], count: MESSAGES });
        await say(server.address, room, MESSAGES);
        await hearsAll(page, { page: MESSAGES, program: MESSAGES });
        expect(await page.evaluate(() => window.used)).toEqual([transport]);
      });
    }

    for (const transport of ofTheNeighbours) {
      test(`${transport} carries ${MESSAGES} messages each way from another origin`, async ({
        page,
        server,
        neighbour,
      }) => {
        const room = await makeRoom(server, transport);
        await load(page, neighbour.origin, libraries);
        const url = `${server.address}/ws/chat`;
        await page.evaluate(visit, { url, room, transports: [transport], count: MESSAGES });
        await say(server.address, room, MESSAGES);
        await hearsAll(page, { page: MESSAGES, program: MESSAGES });
        expect(await page.evaluate(() => window.used)).toEqual([transport]);
      });
    }

    test.describe("with a client that the operator names", () => {
      const named = (neighbour: Neighbour, integrity: string) => [
        ...["--message-rate", "0", "--allowed-origins", neighbour.origin],
        ...["--sockjs-client-url", `${neighbour.scriptOf(libraries.sockjs)}#${integrity}`],
      ];
      const carries = async (page: Page, server: Server, neighbour: Neighbour) => {
        const room = await makeRoom(server, "named");
        await load(page, neighbour.origin, libraries);
        const url = `${server.address}/ws/chat`;
        await page.evaluate(visit, { url, room, transports: ["iframe-xhr-polling"], count: 10 });
        return room;
      };

      test.describe("and that is the one", () => {
        test.use({
          options: async ({ neighbour }, use) => {
            const hash = createHash("sha384").update(await readFile(libraries.sockjs));
            await use(named(neighbour, `sha384-${hash.digest("base64")}`));
          },
        });
        test("frames run it", async ({ page, server, neighbour }) => {
          await carries(page, server, neighbour);
          await hearsAll(page, { page: 10, program: 0 });
        });
      });

      test.describe("and that is another", () => {
        test.use({
          options: async ({ neighbour }, use) => use(named(neighbour, `sha384-${"A".repeat(64)}`)),
          provoked: /integrity|Failed to find a valid digest/,
        });
        test("frames do not run it", async ({ page, server, neighbour }) => {
          const refused = page.waitForEvent("console", (message) => message.text().includes("integrity"));
          await carries(page, server, neighbour);
          await refused;
          expect(await page.evaluate(() => window.used)).toEqual([]);
        });
      });
    });

    test.describe("behind a proxy", () => {
      // A session that was cut off is not there for what is sent to it still.
      test.use({ provoked: new RegExp(`${SOCKET_LOST.source}|net::ERR_|status of 404 .*_send`) });

      test("falls back by itself where WebSocket is blocked", async ({ page, server, cut }) => {
        cut.blockWebSocket();
        const room = await makeRoom(server, "blocked");
        await load(page, `${cut.address}/healthz`, libraries);
        const url = `${cut.address}/ws/chat`;
        await page.evaluate(visit, { url, room, transports: [], count: MESSAGES });
        await say(server.address, room, MESSAGES);
        await hearsAll(page, { page: MESSAGES, program: MESSAGES });
        expect(await page.evaluate(() => window.used)).toEqual(["xhr-streaming"]);
      });

      for (const transport of ["xhr-polling", "xhr-streaming", "eventsource", "jsonp-polling"]) {
        test(`${transport} that is cut off comes back and has lost nothing`, async ({ page, server, cut }) => {
          test.slow();
          const room = await makeRoom(server, transport);
          await load(page, `${cut.address}/healthz`, libraries);
          const url = `${cut.address}/ws/chat`;
          await page.evaluate(visit, { url, room, transports: [transport], count: 0 });
          for (let round = 1; round <= 3; round += 1) {
            // A browser does not tell of every script that is cut off: the library gives it up after 35 s.
            await expect
              .poll(() => page.evaluate(() => window.used.length), { timeout: 45_000 })
              .toBeGreaterThanOrEqual(round);
            cut.interrupt();
            await say(server.address, room, 100, (round - 1) * 100);
            await expect
              .poll(() => page.evaluate(() => window.heard.length), { timeout: 45_000 })
              .toBe(round * 100);
          }
          await hearsAll(page, { page: 0, program: 300 });
          expect(await page.evaluate(() => window.connections)).toBeGreaterThan(1);
        });
      }
    });
  });
}
