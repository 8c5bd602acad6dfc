import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { makeRoom } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import { brokerOf } from "./driver.ts";
import type { Server } from "../support/server.ts";

const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** Runs a client that is a program: it says its steps, and asks for a restart of the server. */
async function run(server: Server, command: string, args: string[]): Promise<string[]> {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
  const said: string[] = [];
  const errors: string[] = [];
  createInterface({ input: child.stderr }).on("line", (line) => errors.push(line));
  createInterface({ input: child.stdout }).on("line", async (line) => {
    said.push(line);
    if (line === "restart the server") {
      await server.kill9();
      await server.restart();
      child.stdin.write("\n");
    }
  });
  const code = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
  expect(code, [...said, ...errors].join("\n")).toBe(0);
  return said;
}

test("stomp.py", async ({ server }) => {
  const python = process.env.SARANGBANG_PYTHON;
  test.skip(!python, "there is no Python with venv");
  test.setTimeout(180_000);
  const room = await makeRoom(server, "파이썬");
  const { hostname, port } = new URL(server.address);
  const said = await run(server, python!, [file("stomp_py.py"), hostname, port, room.roomId]);
  expect(said).toEqual([
    "talks, with receipts",
    "acknowledges and gives back",
    "uses transactions",
    "keeps alive",
    "restart the server",
    "done",
  ]);
});

test("Spring's WebSocketStompClient, and its SockJsClient over WebSocket and XHR", async ({ server }) => {
  const maven = process.env.SARANGBANG_MAVEN;
  test.skip(!maven, "there is no JDK with Maven");
  test.setTimeout(300_000);
  const rooms = await Promise.all(["하나", "둘", "셋"].map((name) => makeRoom(server, name)));
  const said = await run(server, maven!, [
    "--batch-mode",
    "--quiet",
    "--file",
    file("spring/pom.xml"),
    "compile",
    "exec:java",
    `-Dexec.args=${[brokerOf(server.address), ...rooms.map(({ roomId }) => roomId)].join(" ")}`,
  ]);
  // Maven puts its colours around it.
  const steps = said.map((line) => line.replace(/\u001b\[\d*m/g, "")).filter(Boolean);
  expect(steps).toEqual([
    "talks, with receipts",
    "acknowledges and gives back",
    "keeps alive",
    "restart the server",
    "done",
  ]);
});
