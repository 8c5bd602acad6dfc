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

/** Says something in a room as a program would, all of it in one frame; resolves once it is on disk. */
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
    const body = JSON.stringify(
      texts.map((message) => ({ type: "TALK", roomId: room.roomId, sender, message })),
    );
    await page.evaluate(sendFrame, { destination: `/app/topic/chat/room/${room.roomId}`, body });
  } finally {
    await context.close();
  }
}

/** Runs in the browser: one STOMP session that sends one frame and waits for its RECEIPT. */
async function sendFrame({ destination, body }: { destination: string; body: string }): Promise<void> {
  const socket = new WebSocket(`ws://${location.host}/ws/chat`, "v12.stomp");
  await new Promise<void>((resolve, reject) => {
    socket.onopen = () => socket.send(`CONNECT\naccept-version:1.2\nhost:${location.hostname}\n\n\0`);
    socket.onclose = (event) => reject(new Error(`closed: ${event.code} ${event.reason}`));
    socket.onmessage = ({ data }: MessageEvent<string>) => {
      const command = data.trimStart().split("\n", 1)[0];
      if (command === "CONNECTED") {
        socket.send(`SEND\ndestination:${destination}\ncontent-type:application/json\nreceipt:1\n\n${body}\0`);
      } else if (command === "RECEIPT") {
        resolve();
      } else if (command === "ERROR") {
        reject(new Error(data));
      }
    };
  });
  socket.close();
}
