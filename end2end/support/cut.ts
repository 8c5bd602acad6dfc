import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { Transform } from "node:stream";

/** A WebSocket's handshake. */
const UPGRADE = /^GET [^]*\r\nupgrade: *websocket\r\n/i;

/** What the server says to it. */
const HANDSHAKE = /^HTTP\/1\.1 101 [^]*?\r\n\r\n/;

/** An answer that comes in chunks. */
const GATHERED = /^HTTP\/1\.1 [^]*\r\ntransfer-encoding: *chunked\r\n/i;

/**
 * A proxy between a browser and the server that can be cut, as a network is: Playwright's
 * `setOffline` leaves open WebSockets alone.
 */
export class Cut {
  private readonly sockets = new Set<Socket>();
  private isCut = false;
  private isSilent = false;
  private hasWebSocket = true;
  private holdsWebSocket = false;
  /** What of an answer of unknown length is let through before it ends. */
  private passes: RegExp | undefined;
  private hasCookies = true;
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

  /** Lets a WebSocket's handshake through and then holds every octet back, both ways. */
  holdWebSocket(isHeld = true): void {
    this.holdsWebSocket = isHeld;
  }

  /**
   * Holds back each answer whose length is not known until it ends, as proxies do that gather answers;
   * some let its beginning through, as far as `passes` matches.
   */
  gather(passes = /^$/): void {
    this.passes = passes;
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
    this.stall();
  }

  /** The same for what is open now; new connections work, as after sleep or in another network. */
  stall(): void {
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

  /** Takes every cookie out of what the server answers, as for a browser that keeps none. */
  dropCookies(): void {
    this.hasCookies = false;
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
    let isHeld = false;
    const guard = new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        const isUpgrade = UPGRADE.test(chunk.toString("latin1"));
        if (isUpgrade && !this.hasWebSocket) {
          browser.destroy();
        } else if (!isHeld) {
          isHeld = isUpgrade && this.holdsWebSocket;
          return done(null, chunk);
        }
        done();
      },
    });
    let answer: Buffer | undefined;
    let passed = 0;
    const back = new Transform({
      transform: (octets: Buffer, _encoding, done) => {
        const chunk = this.hasCookies
          ? octets
          : Buffer.from(octets.toString("latin1").replace(/\r\nset-cookie:[^\r]*/gi, ""), "latin1");
        if (isHeld) {
          return done(null, HANDSHAKE.exec(chunk.toString("latin1"))?.[0]);
        }
        if (!answer && !(this.passes && GATHERED.test(chunk.toString("latin1")))) {
          return done(null, chunk);
        }
        answer = Buffer.concat([answer ?? Buffer.alloc(0), chunk]);
        const text = answer.toString("latin1");
        const isWhole = text.endsWith("\r\n0\r\n\r\n");
        const end = isWhole ? answer.length : (this.passes?.exec(text)?.[0].length ?? 0);
        done(null, answer.subarray(passed, Math.max(passed, end)));
        passed = Math.max(passed, end);
        if (isWhole) {
          answer = undefined;
          passed = 0;
        }
      },
    });
    guard.pipe(server);
    back.pipe(browser);
    for (const [from, to, into] of [
      [browser, server, guard],
      [server, browser, back],
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
