import type { Locator } from "@playwright/test";

import { makeRoom, seed } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import type { Talker } from "../support/talker.ts";

/** Presses Tab until this has the focus, which must then be seen. */
async function tabTo(guest: Talker, target: Locator): Promise<void> {
  for (let presses = 0; presses < 25; presses++) {
    await guest.page.keyboard.press("Tab");
    const focused = await target.evaluate((element) => element === document.activeElement);
    if (focused) {
      const ring = await target.evaluate((element) => {
        const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(element);
        return { outlineStyle, outlineWidth, outlineColor };
      });
      expect(ring).toMatchObject({ outlineStyle: "solid", outlineWidth: "3px" });
      expect(ring.outlineColor).not.toBe("rgba(0, 0, 0, 0)");
      await expect(target).toBeInViewport();
      return;
    }
  }
  throw new Error("Tab does not lead there");
}

test("everything works by keyboard alone", async ({ talker }) => {
  const guest = await (await talker()).list();
  const { keyboard } = guest.page;
  await expect(guest.name).toBeFocused();
  await keyboard.insertText("영희");
  await keyboard.press("Enter");
  await expect(guest.dialog).toBeHidden();

  await tabTo(guest, guest.page.locator("#roomName"));
  await keyboard.insertText("자판으로");
  await keyboard.press("Tab");
  await expect(guest.page.getByRole("button", { name: "생성하기" })).toBeFocused();
  await keyboard.press("Space");
  await expect(guest.rooms).toHaveCount(1);

  await tabTo(guest, guest.rooms.first());
  await keyboard.press("Enter");
  await expect(guest.page.locator("#room_name")).toHaveText("방제목 : 자판으로");
  await guest.is("online");

  await tabTo(guest, guest.input);
  await keyboard.insertText("안녕하세요");
  await keyboard.press("Enter");
  await guest.allStored(1);
  await expect(guest.input).toBeFocused();
  await keyboard.insertText("단추로");
  await tabTo(guest, guest.page.getByRole("button", { name: "전송" }));
  await keyboard.press("Enter");
  await guest.allStored(2);
  await guest.sees(["안녕하세요", "단추로"]);

  await tabTo(guest, guest.page.getByRole("button", { name: "나가기" }));
  await keyboard.press("Enter");
  await expect(guest.page).toHaveURL(/\/chat\/room$/);

  await tabTo(guest, guest.page.getByTitle("이름 바꾸기"));
  await keyboard.press("Enter");
  await expect(guest.name).toBeFocused();
  await keyboard.press("Escape");
  await expect(guest.dialog).toBeHidden();

  await tabTo(guest, guest.page.locator("a[hreflang]"));
  await keyboard.press("Enter");
  await expect(guest.page.locator("html")).toHaveAttribute("lang", "en");
});

test("the focus goes where one goes on", async ({ talker }) => {
  const guest = await (await talker("영희")).list();
  await guest.page.locator("#roomName").fill("초점");
  await guest.page.locator("#roomName").press("Enter");
  await guest.rooms.first().press("Enter");
  await expect(guest.page.locator("#room_name")).toBeVisible();
  // After a change of page the focus is in the page, not lost behind it.
  await expect
    .poll(() => guest.page.evaluate(() => document.activeElement?.isConnected && document.activeElement !== document.body))
    .toBe(true);
  // The dialog that the name button opens gives the focus back to what was in use.
  const chip = guest.page.getByTitle("이름 바꾸기");
  await chip.press("Enter");
  await expect(guest.name).toBeFocused();
  await guest.page.keyboard.press("Escape");
  await expect(guest.dialog).toBeHidden();
  await expect(guest.page.locator(":focus")).toHaveCount(1);
});

test("older messages can be scrolled to by keyboard", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "위로");
  await seed(browser, server, room, "철수", Array.from({ length: 60 }, (_, n) => `메시지 ${n}`));
  const guest = await (await talker("영희")).enter(room);
  const log = guest.page.getByRole("region", { name: "대화" });
  await tabTo(guest, log);
  // Earlier ones come in above it.
  const first = guest.bubbles.filter({ hasText: /^메시지 10$/ });
  await expect(first).not.toBeInViewport();
  await guest.page.keyboard.press("Home");
  await expect(first).toBeInViewport();
  await guest.page.keyboard.press("End");
  await expect(guest.bubbles.last()).toBeInViewport();
});
