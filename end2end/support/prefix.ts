import { once } from "node:events";
import { Agent, createServer, request, type IncomingMessage, type Server as HttpServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";

export interface PrefixOptions {
  /** Such as `/chat-app`. */
  prefix: string;
  /** Whether the server gets paths without the prefix, as from nginx's `proxy_pass http://server/;`. */
  strips: boolean;
}

/** A proxy that shows the server under a path, beside others on one host. */
export class Prefix {
  /** Paths that were asked for and are not under the prefix: somebody else's. */
  readonly strays: string[] = [];
  hasWebSocket = true;
  private readonly sockets = new Set<Socket>();

  private constructor(
    private readonly server: URL,
    private readonly options: PrefixOptions,
    private readonly proxy: HttpServer = createServer(),
  ) {}

  static async before(server: string, options: PrefixOptions): Promise<Prefix> {
    const prefix = new Prefix(new URL(server), options);
    prefix.proxy.on("connection", (socket) => prefix.keep(socket));
    prefix.proxy.on("request", (asked, answer) => {
      const onward = prefix.onward(asked);
      if (!onward) {
        answer.writeHead(404).end("somebody else's");
        return;
      }
      onward.on("response", (answered) => {
        answer.writeHead(answered.statusCode ?? 502, answered.rawHeaders);
        answered.pipe(answer);
      });
      onward.on("error", () => answer.destroy());
      answer.on("close", () => onward.destroy());
      asked.pipe(onward);
    });
    prefix.proxy.on("upgrade", (asked, socket: Socket) => {
      const onward = prefix.hasWebSocket ? prefix.onward(asked) : undefined;
      if (!onward) {
        socket.destroy();
        return;
      }
      onward.on("upgrade", (answered, other) => {
        const head = [`HTTP/1.1 101 ${answered.statusMessage}`];
        for (let at = 0; at < answered.rawHeaders.length; at += 2) {
          head.push(`${answered.rawHeaders[at]}: ${answered.rawHeaders[at + 1]}`);
        }
        socket.write(`${head.join("\r\n")}\r\n\r\n`);
        prefix.keep(other as Socket);
        socket.pipe(other).pipe(socket);
      });
      onward.on("response", () => socket.destroy());
      onward.on("error", () => socket.destroy());
      onward.end();
    });
    prefix.proxy.listen(0, "127.0.0.1");
    await once(prefix.proxy, "listening");
    return prefix;
  }

  /** The address of what is around the prefix. */
  get address(): string {
    return `http://127.0.0.1:${(this.proxy.address() as AddressInfo).port}`;
  }

  close(): void {
    this.proxy.close();
    for (const socket of this.sockets) {
      socket.destroy();
    }
  }

  /** Asks the server the same; nothing where the path is not under the prefix. */
  private onward(asked: IncomingMessage) {
    const { prefix, strips } = this.options;
    const path = asked.url ?? "";
    if (path !== prefix && !path.startsWith(`${prefix}/`)) {
      this.strays.push(path);
      return undefined;
    }
    return request({
      agent: new Agent(),
      host: this.server.hostname,
      port: this.server.port,
      method: asked.method,
      path: strips ? path.slice(prefix.length) || "/" : path,
      headers: asked.headers,
    });
  }

  private keep(socket: Socket): void {
    this.sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.sockets.delete(socket));
  }
}
