import { RxStomp, RxStompState } from "@stomp/rx-stomp";
import { firstValueFrom, skipWhile } from "rxjs";
import { WebSocket } from "ws";

import { Beats, brokerOf, type Driver, type Headers, type Message, type Transaction } from "./driver.ts";

// What a browser has.
Object.assign(globalThis, { WebSocket });

/** npm `@stomp/rx-stomp`, by its own defaults. */
export class Rx implements Driver {
  private readonly counted = new Beats();
  private readonly client = new RxStomp();

  async connect(address: string): Promise<void> {
    this.client.configure({ brokerURL: brokerOf(address), debug: (line) => this.counted.note(line) });
    this.client.activate();
    await firstValueFrom(this.client.connected$);
  }

  async reconnected(): Promise<void> {
    const lost = (state: RxStompState) => state !== RxStompState.OPEN;
    await firstValueFrom(this.client.connectionState$.pipe(skipWhile((state) => !lost(state)), skipWhile(lost)));
  }

  subscribe(destination: string, subHeaders: Headers, hear: (message: Message) => void): () => void {
    const watched = this.client.watch({ destination, subHeaders }).subscribe(hear);
    return () => watched.unsubscribe();
  }

  send(destination: string, body: string, headers: Headers = {}): void {
    this.client.publish({ destination, body, headers });
  }

  async receipt(id: string): Promise<void> {
    await this.client.asyncReceipt(id);
  }

  begin(): Transaction {
    return this.client.stompClient.begin();
  }

  beats(): Beats {
    return this.counted;
  }

  async close(): Promise<void> {
    await this.client.deactivate();
  }
}
