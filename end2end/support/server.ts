import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const READY_WITHIN_MS = 20_000;
const STOPPED_WITHIN_MS = 15_000;

/** A server of the test's own, on a free port and an empty folder. */
export class Server {
  /** Such as `http://127.0.0.1:40683`; kept over a restart. */
  address = "";
  /** What it has logged. */
  readonly log: string[] = [];
  private process: ChildProcess | undefined;

  private constructor(
    private readonly folder: string,
    private readonly options: string[],
  ) {}

  static async start(options: string[] = []): Promise<Server> {
    const server = new Server(await mkdtemp(join(tmpdir(), "sarangbang-")), options);
    try {
      await server.run("127.0.0.1:0");
    } catch (error) {
      await server.remove();
      throw error;
    }
    return server;
  }

  /** Ends it at once, as a crash does. */
  async kill9(): Promise<void> {
    const process = this.running();
    const ended = once(process, "exit");
    process.kill("SIGKILL");
    await ended;
    this.process = undefined;
  }

  /** Starts it again, on the same port and folder. */
  async restart(): Promise<void> {
    await this.run(new URL(this.address).host);
  }

  /** Takes away all that it has stored, while it is down. */
  async empty(): Promise<void> {
    await rm(this.folder, { recursive: true });
    await mkdir(this.folder);
  }

  /** Takes away what says how far it was, while it is down. */
  async forgetMark(): Promise<void> {
    await rm(join(this.folder, "sarangbang.mark"));
  }

  /** Ends it as an operator does, and gives the exit code. */
  async stop(): Promise<number | null> {
    const process = this.running();
    const ended = once(process, "exit", { signal: AbortSignal.timeout(STOPPED_WITHIN_MS) });
    process.kill("SIGTERM");
    const [code] = (await ended) as [number | null];
    this.process = undefined;
    return code;
  }

  get isRunning(): boolean {
    return this.process !== undefined;
  }

  /** Ends it however it stands, and removes its folder. */
  async remove(): Promise<void> {
    if (this.isRunning) {
      await this.kill9();
    }
    await rm(this.folder, { recursive: true, force: true });
  }

  private running(): ChildProcess {
    if (!this.process) {
      throw new Error("the server is not running");
    }
    return this.process;
  }

  private async run(listen: string): Promise<void> {
    const program = process.env.SARANGBANG_BIN;
    if (!program) {
      throw new Error("SARANGBANG_BIN must name the server's program; `cargo xtask test` sets it");
    }
    // Only what a test says counts, not what is set around it.
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith("SARANGBANG_")),
    );
    const child = spawn(program, ["--listen", listen, "--data-dir", this.folder, ...this.options], {
      env,
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.process = child;
    child.once("exit", () => {
      if (this.process === child) {
        this.process = undefined;
      }
    });
    this.address = await new Promise<string>((resolve, reject) => {
      const fail = (reason: string) => reject(new Error(`${reason}\n${this.log.join("\n")}`));
      const late = setTimeout(() => fail("the server was not ready in time"), READY_WITHIN_MS);
      child.once("error", reject);
      child.once("exit", (code) => fail(`the server ended with ${code}`));
      createInterface({ input: child.stderr! }).on("line", (line) => {
        this.log.push(line);
        const ready = /listening on (http:\/\/\S+)/.exec(line);
        if (ready) {
          clearTimeout(late);
          resolve(ready[1]);
        }
      });
    });
  }
}
