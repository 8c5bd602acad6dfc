import { makeRoom, seed } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import { path } from "../support/talker.ts";

/** Wasm, script, style and HTML of a first visit, as brotli over the wire. */
const FIRST_PAGE_BYTES_MAX = 170_000;

test("a first visit is light, and a second loads the page alone", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "가볍게");
  await seed(browser, server, room, "철수", Array.from({ length: 50 }, (_, n) => `메시지 ${n}`));
  const guest = await talker("영희");
  const network = await guest.page.context().newCDPSession(guest.page);
  await network.send("Network.enable");
  const sizes = new Map<string, number>();
  const fromMemory = new Set<string>();
  const paths = new Map<string, { path: string; encoding: string; cached: boolean }>();
  network.on("Network.responseReceived", ({ requestId, response }) => {
    const url = new URL(response.url);
    // What the room API answers is no part of the page.
    const isApi = /^\/chat\/room(s|\/.*\/messages)$/.test(url.pathname);
    if (url.origin === server.address && !isApi) {
      const encoding = response.headers["content-encoding"] ?? "";
      paths.set(requestId, { path: url.pathname, encoding, cached: response.fromDiskCache ?? false });
    }
  });
  network.on("Network.requestServedFromCache", ({ requestId }) => {
    fromMemory.add(requestId);
  });
  network.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    sizes.set(requestId, encodedDataLength);
  });
  const visit = () =>
    [...paths].map(([id, { cached, ...response }]) => ({
      ...response,
      cached: cached || fromMemory.has(id),
      bytes: sizes.get(id) ?? Number.NaN,
    }));

  await guest.enter(room);
  const first = visit();
  const kinds = first.map(({ path: name }) => name.split(".").at(-1)?.split("/")[0]);
  expect(kinds).toEqual(expect.arrayContaining(["wasm", "js", "css"]));
  expect(first.every(({ encoding }) => encoding === "br"), JSON.stringify(first)).toBe(true);
  const total = first.reduce((sum, { bytes }) => sum + bytes, 0);
  expect(total, first.map(({ path: name, bytes }) => `${bytes} ${name}`).join("\n")).toBeLessThanOrEqual(
    FIRST_PAGE_BYTES_MAX,
  );

  sizes.clear();
  paths.clear();
  await guest.page.goto("/chat/room");
  await guest.is("online");
  const loaded = visit().filter(({ cached }) => !cached);
  expect(loaded.map(({ path: name }) => name)).toEqual(["/chat/room"]);
});

test("files are named by their contents and kept for good", async ({ server }) => {
  const html = await (await fetch(`${server.address}/chat/room`)).text();
  const files = new Set([...html.matchAll(/(?:href|src)="(\/[^"?#]+\.(?:js|css|wasm))"/g)].map(([, file]) => file));
  expect(files.size).toBe(3);
  for (const file of files) {
    expect(file).toMatch(/[0-9a-f]{8,}/);
    for (const encoding of ["br", "gzip", "identity"]) {
      const { status, headers } = await fetch(server.address + file, { headers: { "accept-encoding": encoding } });
      expect(status, file).toBe(200);
      expect(headers.get("cache-control"), file).toMatch(/immutable/);
      expect(headers.get("cache-control"), file).toMatch(/max-age=31536000/);
      expect(headers.get("vary"), file).toMatch(/accept-encoding/i);
      expect(headers.get("content-encoding"), file).toBe(encoding === "identity" ? null : encoding);
      expect(headers.get("x-content-type-options"), file).toBe("nosniff");
    }
  }
});

test("the text is there before any WebAssembly", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "먼저 글");
  await seed(browser, server, room, "철수", ["하나", "둘"]);
  const guest = await talker("영희");
  let asked = () => {};
  const wasm = new Promise<void>((resolve) => (asked = resolve));
  // Asked for, and never answered.
  await guest.page.route("**/*.wasm", () => asked());
  await guest.page.goto(path(room), { waitUntil: "commit" });
  await wasm;
  await guest.sees(["하나", "둘"]);
  await expect(guest.page.locator("#room_name")).toHaveText("방제목 : 먼저 글");
  await expect(guest.rooms).toHaveCount(1);
  await expect(guest.connection).toHaveAttribute("data-state", "connecting");
  await expect(guest.bubbles.last()).toBeInViewport();
});

test("nothing jumps when the script takes over", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "그대로");
  await seed(browser, server, room, "철수", Array.from({ length: 60 }, (_, n) => `메시지 ${n}`));
  const guest = await talker("영희");
  await guest.page.addInitScript(() => {
    (window as any).shifted = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        (window as any).shifted += (entry as any).value;
      }
    }).observe({ type: "layout-shift", buffered: true });
  });
  await guest.enter(room);
  await expect(guest.notices).toHaveCount(1);
  // 0.1 is what the Core Web Vitals call good; the entrance moves the log by one notice.
  expect(await guest.page.evaluate(() => (window as any).shifted)).toBeLessThan(0.1);
});
