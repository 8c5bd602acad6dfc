import type { Browser } from "@playwright/test";

import type { Server } from "./server.ts";

export interface Room {
  roomId: string;
  roomName: string;
  messageCount: number;
}

export interface Message {
  type: "ENTER" | "TALK" | "LEAVE";
  roomId: string;
  sender: string;
  message: string;
  id: string;
  seq: number;
}

/** Makes a room by the room API. */
export async function makeRoom(server: Server, roomName: string): Promise<Room> {
  const response = await fetch(`${server.address}/chat/room`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ roomName }),
  });
  if (!response.ok) {
    throw new Error(`${response.status} ${await response.text()}`);
  }
  return (await response.json()) as Room;
}

/** The newest messages of a room, at most 200, oldest first. */
export async function messages(server: Server, room: Room): Promise<Message[]> {
  const response = await fetch(`${server.address}/chat/room/${room.roomId}/messages?limit=200`);
  if (!response.ok) {
    throw new Error(`${response.status} ${await response.text()}`);
  }
  return (await response.json()) as Message[];
}

/** The texts that were said in a room, in order. */
export async function said(server: Server, room: Room): Promise<string[]> {
  const all = await messages(server, room);
  return all.filter(({ type }) => type === "TALK").map(({ message }) => message);
}

/** How many messages a frame holds at most: it has 64 KiB. */
const MESSAGES_PER_FRAME = 300;

/** Says something in a room as a program would, in as few frames as hold it; resolves once it is on disk. */
export async function seed(
  browser: Browser,
  server: Server,
  room: Room,
  sender: string,
  texts: string[],
): Promise<void> {
  const context = await browser.newContext({ baseURL: server.address, javaScriptEnabled: true });
  try {
    const page = await context.newPage();
    await page.goto("/healthz");
    const bodies: string[] = [];
    for (let at = 0; at < texts.length; at += MESSAGES_PER_FRAME) {
      const part = texts.slice(at, at + MESSAGES_PER_FRAME);
      bodies.push(JSON.stringify(part.map((message) => ({ type: "TALK", roomId: room.roomId, sender, message }))));
    }
    await page.evaluate(sendFrames, { destination: `/app/topic/chat/room/${room.roomId}`, bodies });
  } finally {
    await context.close();
  }
}

interface Frames {
  destination: string;
  bodies: string[];
}

/** Runs in the browser: one STOMP session that sends frames and waits for the last RECEIPT. */
async function sendFrames({ destination, bodies }: Frames): Promise<void> {
  const socket = new WebSocket(`ws://${location.host}/ws/chat`, "v12.stomp");
  await new Promise<void>((resolve, reject) => {
    socket.onopen = () => socket.send(`CONNECT\naccept-version:1.2\nhost:${location.hostname}\n\n\0`);
    socket.onclose = (event) => reject(new Error(`closed: ${event.code} ${event.reason}`));
    let receipts = 0;
    socket.onmessage = ({ data }: MessageEvent<string>) => {
      const command = data.trimStart().split("\n", 1)[0];
      if (command === "CONNECTED") {
        for (const body of bodies) {
          socket.send(`SEND\ndestination:${destination}\ncontent-type:application/json\nreceipt:1\n\n${body}\0`);
        }
      } else if (command === "RECEIPT" && ++receipts === bodies.length) {
        resolve();
      } else if (command === "ERROR") {
        reject(new Error(data));
      }
    };
  });
  socket.close();
}
