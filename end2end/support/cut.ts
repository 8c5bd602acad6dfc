import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { Transform } from "node:stream";

/** A WebSocket's handshake. */
const UPGRADE = /^GET [^]*\r\nupgrade: *websocket\r\n/i;

/**
 * A proxy between a browser and the server that can be cut, as a network is: Playwright's
 * `setOffline` leaves open WebSockets alone.
 */
export class Cut {
  private readonly sockets = new Set<Socket>();
  private isCut = false;
  private isSilent = false;
  private hasWebSocket = true;
  private port = 0;

  private constructor(
    private readonly server: URL,
    private readonly proxy = createServer(),
  ) {}

  static async before(address: string): Promise<Cut> {
    const cut = new Cut(new URL(address));
    cut.proxy.on("connection", (socket) => cut.take(socket));
    await cut.listen();
    return cut;
  }

  get address(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Breaks every connection, and refuses new ones. */
  cut(): void {
    this.isCut = true;
    this.proxy.close();
    this.interrupt();
  }

  /** Breaks each WebSocket at its handshake, as some offices' proxies do. */
  blockWebSocket(isBlocked = true): void {
    this.hasWebSocket = !isBlocked;
  }

  /** Breaks what is open and lets everything through. */
  interrupt(): void {
    for (const socket of this.sockets) {
      socket.destroy();
    }
  }

  /** Lets nothing through and breaks nothing, as a network does that is gone without a word. */
  silence(): void {
    this.isSilent = true;
    for (const socket of this.sockets) {
      socket.unpipe();
      socket.pause();
    }
  }

  /** Lets connections through again. */
  async join(): Promise<void> {
    if (!this.isCut) {
      this.cut();
    }
    this.isCut = false;
    this.isSilent = false;
    await this.listen();
  }

  close(): void {
    if (!this.isCut) {
      this.cut();
    }
  }

  private async listen(): Promise<void> {
    this.proxy.listen(this.port, "127.0.0.1");
    await once(this.proxy, "listening");
    this.port = (this.proxy.address() as AddressInfo).port;
  }

  private take(browser: Socket): void {
    const server = connect(Number(this.server.port), this.server.hostname);
    const guard = new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        if (!this.hasWebSocket && UPGRADE.test(chunk.toString("latin1"))) {
          browser.destroy();
          done();
        } else {
          done(null, chunk);
        }
      },
    });
    guard.pipe(server);
    for (const [from, to, into] of [
      [browser, server, guard],
      [server, browser, browser],
    ] as const) {
      this.sockets.add(from);
      from.setNoDelay(true);
      if (!this.isSilent) {
        from.pipe(into);
      }
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.sockets.delete(from);
        to.destroy();
      });
    }
  }
}
