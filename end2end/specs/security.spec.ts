import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

import { makeRoom } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import { path } from "../support/talker.ts";

/** The directives of a `Content-Security-Policy`. */
function directives(policy: string): Map<string, string[]> {
  const all = policy.split(";").map((directive) => directive.trim().split(/\s+/));
  return new Map(all.map(([name, ...sources]) => [name, sources]));
}

test("every page says what it may load, and by whom it may be framed", async ({ server }) => {
  const room = await makeRoom(server, "안전");
  const nonces = new Set<string>();
  for (const address of ["/chat/room", path(room), "/chat/room/enter/hello", "/nowhere"]) {
    const { headers } = await fetch(server.address + address);
    const policy = headers.get("content-security-policy") ?? "";
    expect(policy, address).not.toContain("unsafe-inline");
    expect(policy, address).not.toContain("'unsafe-eval'");
    expect(policy, address).not.toMatch(/\*/);
    const allowed = directives(policy);
    expect(allowed.get("default-src"), address).toEqual(["'none'"]);
    expect(allowed.get("frame-ancestors"), address).toEqual(["'self'"]);
    expect(allowed.get("base-uri"), address).toEqual(["'none'"]);
    expect(allowed.get("script-src"), address).toContain("'wasm-unsafe-eval'");
    const nonce = allowed.get("script-src")?.find((source) => source.startsWith("'nonce-"));
    expect(nonce, address).toMatch(/^'nonce-[\w+/=-]{16,}'$/);
    nonces.add(nonce ?? "");
    expect(headers.get("x-content-type-options"), address).toBe("nosniff");
    expect(headers.get("referrer-policy"), address).toMatch(/^(same-origin|no-referrer|strict-origin)/);
    expect(headers.get("content-type"), address).toBe("text/html; charset=utf-8");
    expect(headers.get("cache-control"), address).toBe("no-store, no-transform");
  }
  expect(nonces.size, "each page has a nonce of its own").toBe(4);
});

test("nothing on any page needs what the policy forbids", async ({ server, talker }) => {
  const room = await makeRoom(server, "안전");
  const guest = await (await talker("영희")).enter(room);
  await guest.say("말");
  await guest.allStored(1);
  await guest.page.getByRole("button", { name: "나가기" }).click();
  await expect(guest.rooms).toHaveCount(1);
  expect(await guest.page.locator("[style], [onclick], style").count()).toBe(0);
});

test("the policy really holds: a script put into the page does not run", async ({ browser, server }) => {
  // A context of its own, as the violations are the point.
  const context = await browser.newContext({ baseURL: server.address });
  const page = await context.newPage();
  await page.goto("/chat/room");
  await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "document.title = 'ran'";
    document.body.append(script);
    document.body.insertAdjacentHTML("beforeend", "<img src='data:,x' onerror=\"document.title = 'ran'\">");
  });
  await expect(page.locator("body > img")).toHaveJSProperty("complete", true);
  await expect(page).not.toHaveTitle("ran");
  await context.close();
});

test("the guest's cookie is out of scripts' reach, and given once", async ({ server, talker }) => {
  const guest = await talker("영희");
  const first = await guest.page.goto("/chat/room");
  const header = (await first?.headersArray())?.find(
    ({ name, value }) => name.toLowerCase() === "set-cookie" && value.startsWith("sarangbang_guest="),
  );
  expect(header?.value).toMatch(/; HttpOnly/);
  expect(header?.value).toMatch(/; SameSite=Lax/);
  expect(header?.value).toMatch(/; Path=\//);
  const cookies = await guest.page.context().cookies();
  expect(cookies.find(({ name }) => name === "sarangbang_guest")).toMatchObject({
    httpOnly: true,
    sameSite: "Lax",
    secure: false,
  });
  expect(await guest.page.evaluate(() => document.cookie)).not.toContain("sarangbang_guest");
  const again = await guest.page.reload();
  expect(await again?.headerValue("set-cookie")).toBeNull();
  const { value } = cookies.find(({ name }) => name === "sarangbang_guest")!;
  const forged = await fetch(`${server.address}/chat/room`, {
    headers: { cookie: `sarangbang_guest=${value.slice(0, -1)}${value.endsWith("0") ? "1" : "0"}` },
  });
  expect(forged.headers.get("set-cookie"), "a forged one counts as none").toContain("sarangbang_guest=");
});

test("pages of other sites may not connect", async ({ server }) => {
  const upgrade = (origin: string) =>
    fetch(`${server.address}/ws/chat/websocket`, { headers: { origin } }).then(({ status }) => status);
  expect(await upgrade("https://elsewhere.example")).toBe(403);
  expect(await upgrade(server.address)).not.toBe(403);
});

test("a page may not be framed by another site", async ({ browser, server }) => {
  const elsewhere = createServer((_, response) => {
    response.setHeader("content-type", "text/html").end(`<iframe src="${server.address}/chat/room"></iframe>`);
  });
  await once(elsewhere.listen(0, "127.0.0.1"), "listening");
  const context = await browser.newContext();
  const page = await context.newPage();
  const refused = page.waitForEvent("console", (message) => message.text().includes("frame-ancestors"));
  // The same machine by another name is another site.
  await page.goto(`http://localhost:${(elsewhere.address() as AddressInfo).port}/`);
  expect((await refused).text()).toMatch(/violates.*frame-ancestors 'self'/);
  await context.close();
  elsewhere.close();
});
