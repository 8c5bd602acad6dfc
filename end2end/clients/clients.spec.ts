import { makeRoom, said } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import { OldStompJs, WebStompClient } from "./classic.ts";
import type { Driver, Message } from "./driver.ts";
import { Rx } from "./rx-stomp.ts";
import { StompJs } from "./stompjs.ts";

const clients: Record<string, () => Driver> = {
  "@stomp/stompjs": () => new StompJs(),
  "@stomp/rx-stomp": () => new Rx(),
  "stompjs 2.3.3": () => new OldStompJs(),
  "webstomp-client": () => new WebStompClient(),
};

/** Collects what is heard, and waits for so much of it. */
function ears(): { hear: (message: Message) => void; heard: Message[]; hears: (bodies: string[]) => Promise<void> } {
  const heard: Message[] = [];
  return {
    heard,
    hear: (message) => heard.push(message),
    hears: (bodies) => expect.poll(() => heard.map(({ body }) => body)).toEqual(bodies),
  };
}

for (const [name, make] of Object.entries(clients)) {
  test.describe(name, () => {
    let client: Driver;

    test.beforeEach(async ({ server }) => {
      client = make();
      await client.connect(server.address);
    });

    test.afterEach(async () => {
      await client.close();
    });

    test("talks in a room, with receipts", async ({ server }) => {
      const room = await makeRoom(server, "남의 손님");
      const talk = (message: string) => JSON.stringify({ type: "TALK", roomId: room.roomId, sender: name, message });
      const { hear, heard } = ears();
      client.subscribe(`/topic/chat/room/${room.roomId}`, {}, hear);
      for (const n of ["하나", "둘", "셋"]) {
        const stored = client.receipt(n);
        client.send("/app/chat/sendMessage", talk(n), { receipt: n });
        await stored;
      }
      await expect.poll(() => heard.length).toBe(3);
      expect(heard.map(({ body }) => JSON.parse(body).message)).toEqual(["하나", "둘", "셋"]);
      expect(heard.map(({ headers }) => headers["x-stream-offset"])).toEqual(["1", "2", "3"]);
      expect(await said(server, room)).toEqual(["하나", "둘", "셋"]);
    });

    test("acknowledges and gives back", async () => {
      const [first, second] = [ears(), ears()];
      const ack = { ack: "client-individual" };
      const leave = client.subscribe("/queue/work", ack, first.hear);
      for (const body of ["one", "two", "three"]) {
        client.send("/queue/work", body);
      }
      await first.hears(["one", "two", "three"]);
      first.heard[1].ack();
      leave();
      const leaveAgain = client.subscribe("/queue/work", ack, second.hear);
      // With nobody there between, what was left is gone; so it is given back to oneself.
      client.send("/queue/work", "four");
      await second.hears(["four"]);
      second.heard[0].nack();
      await second.hears(["four", "four"]);
      second.heard[1].ack();
      leaveAgain();
    });

    test("reads a room through a window", async ({ server }) => {
      const room = await makeRoom(server, "창");
      const destination = `/topic/chat/room/${room.roomId}`;
      for (let n = 0; n < 10; n++) {
        const stored = client.receipt(`${n}`);
        const message = { type: "TALK", sender: name, message: `${n}` };
        client.send(destination, JSON.stringify(message), { receipt: `${n}` });
        await stored;
      }
      const { hear, heard } = ears();
      const headers = { ack: "client", "prefetch-count": "4", "x-stream-offset": "first" };
      client.subscribe(destination, headers, hear);
      for (const count of [4, 8, 10]) {
        await expect.poll(() => heard.length).toBe(count);
        heard.at(-1)?.ack();
      }
      expect(heard.map(({ body }) => JSON.parse(body).message)).toEqual([..."0123456789"]);
    });

    test("sends in a transaction", async ({ server }) => {
      const room = await makeRoom(server, "한꺼번에");
      const destination = `/topic/chat/room/${room.roomId}`;
      const talk = (message: string) => JSON.stringify({ type: "TALK", sender: name, message });
      const { hear, heard } = ears();
      client.subscribe(destination, {}, hear);
      const dropped = client.begin();
      client.send(destination, talk("아니"), { transaction: dropped.id });
      dropped.abort();
      const kept = client.begin();
      for (const n of ["하나", "둘"]) {
        client.send(destination, talk(n), { transaction: kept.id });
      }
      expect(await said(server, room)).toEqual([]);
      kept.commit();
      await expect.poll(() => heard.map(({ body }) => JSON.parse(body).message)).toEqual(["하나", "둘"]);
      expect(await said(server, room)).toEqual(["하나", "둘"]);
    });

    test("keeps alive by heart-beats, and comes back after a restart", async ({ server }) => {
      const room = await makeRoom(server, "다시");
      const destination = `/topic/chat/room/${room.roomId}`;
      const stored = client.receipt("r");
      const talk = (message: string) => JSON.stringify({ type: "TALK", sender: name, message });
      client.send(destination, talk("전"), { receipt: "r" });
      await stored;
      // Their default is one every ten seconds, each way.
      const beats = () => Math.min(client.beats().sent, client.beats().received);
      await expect.poll(beats, { timeout: 40_000 }).toBeGreaterThan(0);
      const back = client.reconnected();
      await server.kill9();
      await server.restart();
      await back;
      const { hear, heard } = ears();
      client.subscribe(destination, { "x-stream-offset": "first" }, hear);
      const again = client.receipt("s");
      client.send(destination, talk("후"), { receipt: "s" });
      await again;
      await expect.poll(() => heard.map(({ body }) => JSON.parse(body).message)).toEqual(["전", "후"]);
    });
  });
}
