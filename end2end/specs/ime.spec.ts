import type { CDPSession } from "@playwright/test";

import { makeRoom, said } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import type { Talker } from "../support/talker.ts";

/** An input method, driven as Chromium is by the system's. */
class InputMethod {
  private constructor(private readonly session: CDPSession) {}

  static async of(guest: Talker): Promise<InputMethod> {
    return new InputMethod(await guest.page.context().newCDPSession(guest.page));
  }

  /** What is composed now. */
  async compose(text: string): Promise<void> {
    await this.session.send("Input.imeSetComposition", {
      text,
      selectionStart: text.length,
      selectionEnd: text.length,
    });
  }

  /** Ends the composition with this text. */
  async commit(text: string): Promise<void> {
    await this.session.send("Input.insertText", { text });
  }

  /** A key that the input method has, as Chromium tells it on Windows (`Process`) and on macOS (`Enter`). */
  async processed(key = "Process", code = "Enter"): Promise<void> {
    const event = { key, code, windowsVirtualKeyCode: 229 };
    await this.session.send("Input.dispatchKeyEvent", { type: "rawKeyDown", ...event });
    await this.session.send("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  }
}

/** The texts said in a room, once no more can be on its way. */
async function saidIn(guest: Talker, texts: string[]): Promise<void> {
  await guest.sees(texts);
  await guest.allStored(texts.length);
  await expect(guest.input).toHaveValue("");
  await guest.page.waitForTimeout(300);
  await guest.sees(texts);
  await expect(guest.input).toHaveValue("");
}

for (const key of ["Process", "Enter"]) {
  for (const isToldTwice of [true, false]) {
    test(`Korean: one Enter ends the syllable and sends (${key}, told ${isToldTwice ? "twice" : "once"})`, async ({
      server,
      talker,
    }) => {
      const room = await makeRoom(server, "한글");
      const guest = await (await talker("영희")).enter(room);
      const method = await InputMethod.of(guest);
      await guest.input.focus();
      const texts = ["안녕", "안녕", "ㅋ"];
      for (const text of texts) {
        const last = text.at(-1) ?? "";
        await method.commit(text.slice(0, -1));
        await method.compose(last);
        await expect(guest.input).toHaveValue(text);
        await method.processed(key);
        await method.commit(last);
        if (isToldTwice) {
          await guest.page.keyboard.press("Enter");
        }
        await expect(guest.input).toHaveValue("");
      }
      await saidIn(guest, texts);
      expect(await said(server, room)).toEqual(texts);
    });
  }
}

for (const [language, composed, committed] of [
  ["Japanese", "にほん", "日本"],
  ["Japanese, as it was typed", "にほん", "にほん"],
  ["Chinese", "ni'hao", "你好"],
  ["Chinese, as it was typed", "ni'hao", "nihao"],
  ["Hanja", "한", "韓"],
] as const) {
  test(`${language}: the Enter that ends a composition does not send`, async ({ server, talker }) => {
    const room = await makeRoom(server, "입력기");
    const guest = await (await talker("영희")).enter(room);
    const method = await InputMethod.of(guest);
    await guest.input.focus();
    await method.compose(composed);
    await method.processed("Enter");
    await method.commit(committed);
    await guest.page.waitForTimeout(300);
    await expect(guest.input).toHaveValue(committed);
    await expect(guest.bubbles).toHaveCount(0);
    await guest.page.keyboard.press("Enter");
    await saidIn(guest, [committed]);
  });
}

/** Raises these events on a field, in one task each, as another engine does. */
async function raise(guest: Talker, selector: string, events: [string, Record<string, unknown>, string?][]): Promise<boolean[]> {
  return guest.page.evaluate(
    async ([selector, events]) => {
      const field = document.querySelector<HTMLTextAreaElement>(selector as string)!;
      const prevented = [];
      for (const [type, init, value] of events as [string, Record<string, unknown>, string?][]) {
        if (value !== undefined) {
          field.value = value;
        }
        const Kind = type.startsWith("composition") ? CompositionEvent : type === "keydown" ? KeyboardEvent : InputEvent;
        const event = new Kind(type, { bubbles: true, cancelable: true, ...init });
        prevented.push(!field.dispatchEvent(event));
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      return prevented;
    },
    [selector, events] as const,
  );
}

const ENTER = { key: "Enter", code: "Enter" };
const safari = (text: string): [string, Record<string, unknown>, string?][] => [
  ["compositionstart", { data: "" }],
  ["compositionupdate", { data: text }],
  ["input", { inputType: "insertCompositionText", data: text, isComposing: true }, text],
  ["input", { inputType: "insertFromComposition", data: text }],
  ["compositionend", { data: text }],
  ["keydown", { ...ENTER, keyCode: 229 }],
];

test("Safari tells the end before the Enter: Korean sends, Japanese does not", async ({ server, talker }) => {
  const room = await makeRoom(server, "사파리");
  const guest = await (await talker("영희")).enter(room);
  await raise(guest, "#messageInput", safari("안녕"));
  await saidIn(guest, ["안녕"]);
  await raise(guest, "#messageInput", safari("日本"));
  await expect(guest.input).toHaveValue("日本");
  await guest.input.press("Enter");
  await saidIn(guest, ["안녕", "日本"]);
});

test("a syllable that the engine puts back after it was sent does not stay", async ({ server, talker }) => {
  const room = await makeRoom(server, "되돌아온 글자");
  const guest = await (await talker("영희")).enter(room);
  await raise(guest, "#messageInput", [
    ["keydown", { key: "Process", code: "KeyS", keyCode: 229 }],
    ["compositionstart", { data: "" }],
    ["compositionupdate", { data: "녕" }],
    ["input", { inputType: "insertCompositionText", data: "녕", isComposing: true }, "안녕"],
    ["keydown", { key: "Process", code: "Enter", keyCode: 229, isComposing: true }],
    ["compositionend", { data: "녕" }],
    ["input", { inputType: "insertCompositionText", data: "녕" }, "녕"],
    ["keydown", { ...ENTER, keyCode: 13 }],
  ]);
  await saidIn(guest, ["안녕"]);
  await guest.page.reload();
  await guest.is("online");
  await expect(guest.input).toHaveValue("");
});

test("where no key is given, Enter does what the hint says", async ({ server, talker }) => {
  const room = await makeRoom(server, "자판 없는");
  const guest = await (await talker("영희")).enter(room);
  await expect(guest.input).toHaveAttribute("enterkeyhint", "send");
  for (const [index, inputType] of ["insertLineBreak", "insertParagraph"].entries()) {
    const prevented = await raise(guest, "#messageInput", [
      ["input", { inputType: "insertText", data: "말" }, `말 ${index}`],
      ["keydown", { key: "Unidentified", code: "", keyCode: 229 }],
      ["beforeinput", { inputType }],
    ]);
    expect(prevented.at(-1)).toBe(true);
  }
  await saidIn(guest, ["말 0", "말 1"]);
});

test("the button ends a composition before it sends", async ({ server, talker }) => {
  const room = await makeRoom(server, "단추");
  const guest = await (await talker("영희")).enter(room);
  const method = await InputMethod.of(guest);
  await guest.input.focus();
  for (const text of ["안녕", "日本"]) {
    await method.compose(text);
    await guest.page.locator(".composer-send").click();
    await expect(guest.input).toHaveValue("");
  }
  // Raised by a script the focus does not move, and nothing has ended it.
  await method.compose("하나");
  await guest.page.locator(".composer").evaluate((form: HTMLFormElement) => form.requestSubmit());
  await saidIn(guest, ["안녕", "日本", "하나"]);
});

test("Shift and Enter breaks the line, also out of a syllable", async ({ server, talker }) => {
  const room = await makeRoom(server, "두 줄");
  const guest = await (await talker("영희")).enter(room);
  const method = await InputMethod.of(guest);
  await guest.input.focus();
  await method.compose("가");
  await method.commit("가");
  await guest.page.keyboard.press("Shift+Enter");
  await method.compose("나");
  await method.commit("나");
  await expect(guest.input).toHaveValue("가\n나");
  await guest.page.keyboard.press("Control+Enter");
  await guest.allStored(1);
  expect(await said(server, room)).toEqual(["가\n나"]);
});

test.describe("on glass", () => {
  test.use({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });

  test("Enter breaks the line, as its hint says, and the button sends", async ({ server, talker }) => {
    const room = await makeRoom(server, "전화기");
    const guest = await (await talker("영희")).enter(room);
    await expect(guest.input).toHaveAttribute("enterkeyhint", "enter");
    await guest.input.pressSequentially("하나");
    await guest.input.press("Enter");
    await guest.input.pressSequentially("둘");
    await expect(guest.input).toHaveValue("하나\n둘");
    const method = await InputMethod.of(guest);
    await method.compose("셋");
    await method.processed("Unidentified", "");
    await method.commit("셋");
    await guest.page.waitForTimeout(100);
    await expect(guest.input).toHaveValue("하나\n둘셋");
    await guest.page.locator(".composer-send").tap();
    await guest.allStored(1);
    await expect(guest.input).toHaveValue("");
    expect(await said(server, room)).toEqual(["하나\n둘셋"]);
    await guest.input.fill("넷");
    await guest.input.press("Control+Enter");
    await guest.allStored(2);
  });
});

for (const isToldTwice of [true, false]) {
  test(`a room and a name are made by one Korean Enter (told ${isToldTwice ? "twice" : "once"})`, async ({ talker }) => {
    const guest = await (await talker()).list();
    const method = await InputMethod.of(guest);
    const type = async (text: string) => {
      await method.compose(text);
      await method.processed();
      await method.commit(text);
      if (isToldTwice) {
        await guest.page.keyboard.press("Enter");
      }
    };
    await expect(guest.name).toBeFocused();
    await type("영희");
    await expect(guest.dialog).toBeHidden();
    expect(await guest.page.evaluate(() => localStorage.getItem("sender"))).toBe("영희");
    await guest.page.locator("#roomName").focus();
    await type("새방");
    await expect(guest.rooms.locator(".room-title")).toHaveText(["새방"]);
    await expect(guest.page.locator("#roomName")).toHaveValue("");
    await guest.page.waitForTimeout(300);
    await expect(guest.rooms).toHaveCount(1);
    await expect(guest.page.getByRole("alert")).toHaveCount(0);
  });
}

test("a room and a name are not made by an Enter that only converts", async ({ talker }) => {
  const guest = await (await talker()).list();
  const method = await InputMethod.of(guest);
  await expect(guest.name).toBeFocused();
  await method.compose("はな");
  await method.processed();
  await method.commit("花");
  await guest.page.waitForTimeout(200);
  await expect(guest.dialog).toBeVisible();
  await guest.page.keyboard.press("Enter");
  await expect(guest.dialog).toBeHidden();
  await raise(guest, "#roomName", safari("部屋"));
  await guest.page.waitForTimeout(200);
  await expect(guest.rooms).toHaveCount(0);
  await guest.page.locator("#roomName").press("Enter");
  await expect(guest.rooms.locator(".room-title")).toHaveText(["部屋"]);
});

test("what was asked a name for is sent by the next Enter", async ({ server, talker }) => {
  const room = await makeRoom(server, "이름부터");
  const guest = await (await talker()).enter(room);
  await guest.page.keyboard.press("Escape");
  const method = await InputMethod.of(guest);
  await guest.input.focus();
  await method.compose("안녕");
  await method.processed();
  await method.commit("안녕");
  await expect(guest.dialog).toBeVisible();
  await expect(guest.dialog.getByRole("alert")).toHaveCount(0);
  await guest.name.fill("영희");
  await guest.name.press("Enter");
  await expect(guest.dialog).toBeHidden();
  await expect(guest.input).toHaveValue("안녕");
  await guest.input.press("Enter");
  await saidIn(guest, ["안녕"]);
});
