import { expect, type Locator, type Page } from "@playwright/test";

import type { Room } from "./api.ts";

export type Connection = "connecting" | "online" | "detour" | "offline" | "catching-up";

/** Somebody in front of a browser, with what they see of a room. */
export class Talker {
  /** Every bubble, in the order shown. */
  readonly bubbles: Locator;
  /** The bubbles on the right. */
  readonly own: Locator;
  /** Who entered and left. */
  readonly notices: Locator;
  readonly input: Locator;
  readonly dialog: Locator;
  /** The field of the dialog. */
  readonly name: Locator;
  readonly connection: Locator;
  readonly rooms: Locator;

  constructor(
    readonly page: Page,
    readonly sender: string,
  ) {
    this.bubbles = page.locator("#messageArea .bubble");
    this.own = page.locator("#messageArea [data-own=true]");
    this.notices = page.locator("#messageArea [data-type]");
    this.input = page.locator("#messageInput");
    this.dialog = page.locator("#nameDialog");
    this.name = page.locator("#sender");
    this.connection = page.locator("#connection");
    this.rooms = page.locator("#roomListTable a");
  }

  /** Opens the list of rooms, and waits until it is live. */
  async list(): Promise<this> {
    await this.page.goto("/chat/room");
    await this.is("online");
    return this;
  }

  /** Opens a room, and waits until they are in it, connected so. */
  async enter(room: Room, connection: Connection = "online"): Promise<this> {
    await this.page.goto(path(room));
    await this.is(connection);
    return this;
  }

  /** Waits until the page is connected so. */
  async is(state: Connection): Promise<void> {
    await expect(this.connection).toHaveAttribute("data-state", state, { timeout: 45_000 });
  }

  /** Types and sends, by what sends here, and does not wait for anything. */
  async say(text: string): Promise<void> {
    await this.input.fill(text);
    if ((await this.input.getAttribute("enterkeyhint")) === "enter") {
      await this.page.locator(".composer-send").tap();
    } else {
      await this.input.press("Enter");
    }
  }

  /** Waits until these are all the bubbles, in this order. */
  async sees(texts: (string | RegExp)[]): Promise<void> {
    await expect(this.bubbles).toHaveText(texts);
  }

  /** Waits until everything of theirs is on the server's disk. */
  async allStored(count: number): Promise<void> {
    await expect(this.own.and(this.page.locator("[data-state=stored]"))).toHaveCount(count);
    await expect(this.own).toHaveCount(count);
  }
}

/** The path of a room's page. */
export function path(room: Room): string {
  return `/chat/room/enter/${room.roomId}`;
}
