import { Client } from "@stomp/stompjs";
import { WebSocket } from "ws";

import { Awaited, Beats, brokerOf, type Driver, type Headers, type Message, type Transaction } from "./driver.ts";

// What a browser has.
Object.assign(globalThis, { WebSocket });

/** npm `@stomp/stompjs`, by its own defaults. */
export class StompJs implements Driver {
  private readonly counted = new Beats();
  private readonly awaited = new Awaited();
  private client = new Client();

  async connect(address: string): Promise<void> {
    const connected = this.awaited.expect("connected");
    this.client = new Client({
      brokerURL: brokerOf(address),
      debug: (line) => this.counted.note(line),
      onConnect: () => this.awaited.keep("connected"),
    });
    this.client.activate();
    await connected;
  }

  reconnected(): Promise<void> {
    return this.awaited.expect("connected");
  }

  subscribe(destination: string, headers: Headers, hear: (message: Message) => void): () => void {
    const subscription = this.client.subscribe(destination, hear, headers);
    return () => subscription.unsubscribe();
  }

  send(destination: string, body: string, headers: Headers = {}): void {
    this.client.publish({ destination, body, headers });
  }

  receipt(id: string): Promise<void> {
    return new Promise((resolve) => this.client.watchForReceipt(id, () => resolve()));
  }

  begin(): Transaction {
    return this.client.begin();
  }

  beats(): Beats {
    return this.counted;
  }

  async close(): Promise<void> {
    await this.client.deactivate();
  }
}
