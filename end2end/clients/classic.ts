import stompjs from "stompjs";
import webstomp from "webstomp-client";
import { WebSocket } from "ws";

import { Awaited, Beats, brokerOf, type Driver, type Headers, type Message, type Transaction } from "./driver.ts";

/** How long whoever uses such a client waits before they try again. */
const RETRY_MS = 200;

/** What the two clients of jmesnil's line have in common. */
interface Classic {
  debug: (line: string) => void;
  onreceipt?: (frame: { headers: Headers }) => void;
  connect(headers: Headers, connected: () => void, failed: (reason: unknown) => void): void;
  disconnect(done: () => void): void;
  subscribe(destination: string, hear: (message: Message) => void, headers: Headers): { unsubscribe(): void };
  begin(transaction: string): unknown;
  commit(transaction: string): void;
  abort(transaction: string): void;
}

/** `stompjs` 2.3.3 or `webstomp-client`: neither comes back by itself, so their users do it for them. */
abstract class ClassicDriver<C extends Classic> implements Driver {
  private readonly counted = new Beats();
  private readonly awaited = new Awaited();
  private transactions = 0;
  private isClosing = false;
  protected client!: C;

  protected abstract over(socket: WebSocket): C;
  abstract send(destination: string, body: string, headers?: Headers): void;

  async connect(address: string): Promise<void> {
    const connected = this.awaited.expect("connected");
    this.open(address);
    await connected;
  }

  reconnected(): Promise<void> {
    return this.awaited.expect("connected");
  }

  subscribe(destination: string, headers: Headers, hear: (message: Message) => void): () => void {
    const subscription = this.client.subscribe(destination, hear, headers);
    return () => subscription.unsubscribe();
  }

  receipt(id: string): Promise<void> {
    return this.awaited.expect(`receipt ${id}`);
  }

  begin(): Transaction {
    const id = `t${this.transactions++}`;
    this.client.begin(id);
    return { id, commit: () => this.client.commit(id), abort: () => this.client.abort(id) };
  }

  beats(): Beats {
    return this.counted;
  }

  async close(): Promise<void> {
    this.isClosing = true;
    await new Promise<void>((resolve) => this.client.disconnect(() => resolve()));
  }

  private open(address: string): void {
    const socket = new WebSocket(brokerOf(address), ["v10.stomp", "v11.stomp", "v12.stomp"]);
    // Both hear of it by `onclose`, as in a browser.
    socket.on("error", () => {});
    this.client = this.over(socket);
    this.client.debug = (line) => this.counted.note(String(line));
    this.client.onreceipt = ({ headers }) => this.awaited.keep(`receipt ${headers["receipt-id"]}`);
    let isLost = false;
    this.client.connect(
      {},
      () => this.awaited.keep("connected"),
      () => {
        if (!isLost && !this.isClosing) {
          isLost = true;
          setTimeout(() => this.open(address), RETRY_MS);
        }
      },
    );
  }
}

interface StompJs2 extends Classic {
  send(destination: string, headers: Headers, body: string): void;
}

/** npm `stompjs` 2.3.3, as most tutorials still load it. */
export class OldStompJs extends ClassicDriver<StompJs2> {
  protected over(socket: WebSocket): StompJs2 {
    return stompjs.over(socket) as StompJs2;
  }

  send(destination: string, body: string, headers: Headers = {}): void {
    this.client.send(destination, headers, body);
  }
}

interface WebStomp extends Classic {
  send(destination: string, body: string, headers: Headers): void;
}

/** npm `webstomp-client`. */
export class WebStompClient extends ClassicDriver<WebStomp> {
  protected over(socket: WebSocket): WebStomp {
    return webstomp.over(socket) as unknown as WebStomp;
  }

  send(destination: string, body: string, headers: Headers = {}): void {
    this.client.send(destination, body, headers);
  }
}
