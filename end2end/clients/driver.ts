/** One of somebody else's clients behind what the tests ask of it. */
export interface Driver {
  /** Opens a session with the client's defaults; resolves once it is connected. */
  connect(address: string): Promise<void>;
  /** Resolves once it is connected anew after the server has gone and come back. */
  reconnected(): Promise<void>;
  subscribe(destination: string, headers: Headers, hear: (message: Message) => void): () => void;
  send(destination: string, body: string, headers?: Headers): void;
  /** Resolves once the RECEIPT of this id has come; ask before what asks for it is sent. */
  receipt(id: string): Promise<void>;
  begin(): Transaction;
  /** Heart-beats seen so far. */
  beats(): { sent: number; received: number };
  close(): Promise<void>;
}

export type Headers = Record<string, string>;

export interface Message {
  body: string;
  headers: Headers;
  ack(headers?: Headers): void;
  nack(headers?: Headers): void;
}

export interface Transaction {
  id: string;
  commit(): void;
  abort(): void;
}

/** Counts heart-beats by what a client says that it does. */
export class Beats {
  sent = 0;
  received = 0;

  note(line: string): void {
    this.sent += line.includes(">>> PING") ? 1 : 0;
    this.received += line.includes("<<< PONG") ? 1 : 0;
  }
}

/** Promises that are kept by a name. */
export class Awaited {
  private readonly waiting = new Map<string, () => void>();

  expect(name: string): Promise<void> {
    return new Promise((resolve) => this.waiting.set(name, resolve));
  }

  keep(name: string): void {
    this.waiting.get(name)?.();
    this.waiting.delete(name);
  }
}

/** The address of the broker for a server's. */
export function brokerOf(address: string): string {
  return `${address.replace(/^http/, "ws")}/ws/chat`;
}
