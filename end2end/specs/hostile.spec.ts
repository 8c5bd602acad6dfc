import { makeRoom, messages, said, seed } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import { path } from "../support/talker.ts";

const hostile = [
  "<script>document.title='ran'</script>",
  "<img src=x onerror=\"document.title='ran'\">",
  "</div></body><h1>밖</h1>",
  "&lt;b&gt; &amp; \"quoted\" 'text'",
  "javascript:document.title='ran'",
  "\u202Eotni gnihtemos\u202D \u2067abc",
  "__RESOLVED_RESOURCES[0]=null;</script><script>document.title='ran'</script>",
  "\\u003cscript\\u003e ${document.title='ran'} {{7*7}}",
  "긴".repeat(4000),
  "W".repeat(4000),
  "😀".repeat(4000),
];

test("whatever is said is shown as text, live and after a reload", async ({ server, talker }) => {
  const room = await makeRoom(server, "무엇이든");
  const reader = await (await talker("철수")).enter(room);
  const writer = await (await talker("영희")).enter(room);
  for (const text of hostile) {
    await writer.say(text);
  }
  await writer.allStored(hostile.length);
  expect(await said(server, room)).toEqual(hostile);
  for (const guest of [reader, writer]) {
    await guest.sees(hostile);
    await guest.page.reload();
    await guest.is("online");
    await guest.sees(hostile);
    await expect(guest.page).toHaveTitle(/무엇이든/);
    await expect(guest.page.locator("#messageArea :is(script, img, h1)")).toHaveCount(0);
    for (const width of [1280, 360]) {
      await guest.page.setViewportSize({ width, height: 740 });
      const wide = await guest.bubbles.evaluateAll((bubbles) =>
        bubbles
          .filter((bubble) => {
            const { left, right } = bubble.getBoundingClientRect();
            const log = bubble.closest(".log-scroll")!.getBoundingClientRect();
            return left < log.left || right > log.right || bubble.scrollWidth > bubble.clientWidth + 1;
          })
          .map((bubble) => bubble.textContent?.slice(0, 20)),
      );
      expect(wide, `too wide at ${width} px`).toEqual([]);
      const overflow = await guest.page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
      );
      expect(overflow, `the page scrolls sideways at ${width} px`).toBe(0);
    }
  }
});

test("4,001 characters are refused with words, and stay where they were typed", async ({ server, talker }) => {
  const room = await makeRoom(server, "너무 길어요");
  const guest = await (await talker("영희")).enter(room);
  const text = "😀".repeat(4001);
  await guest.say(text);
  await expect(guest.page.getByRole("alert")).toHaveText(/4000자까지.*4001자/);
  await expect(guest.input).toHaveAccessibleDescription(/4001자/);
  await expect(guest.input).toHaveAttribute("aria-invalid", "true");
  await expect(guest.input).toHaveValue(text);
  await expect(guest.bubbles).toHaveCount(0);
  // Surrounding space does not count.
  await guest.say(`  ${"😀".repeat(4000)}  `);
  await expect(guest.page.getByRole("alert")).toHaveCount(0);
  await guest.allStored(1);
  expect((await messages(server, room)).at(-1)?.message).toBe("😀".repeat(4000));
});

test("a control character is refused with words", async ({ server, talker }) => {
  const room = await makeRoom(server, "보이지 않는");
  const guest = await (await talker("영희")).enter(room);
  await guest.say("안녕\u0007");
  await expect(guest.page.getByRole("alert")).toHaveText(/제어 문자/);
  await guest.say("안녕");
  await guest.sees(["안녕"]);
});

test("marks that turn the direction of text turn nothing but their own", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "오른쪽에서");
  await seed(browser, server, room, "\u202Eevil", ["\u202Etext", "plain"]);
  const guest = await (await talker("영희")).enter(room);
  const run = guest.page.locator(".message").filter({ hasText: "text" });
  // The name, the text and the time stand where they would for anybody.
  const face = await run.locator(".face").boundingBox();
  const bubble = await run.locator(".bubble").boundingBox();
  expect(face && bubble && face.x < bubble.x).toBe(true);
  const directions = await guest.page
    .locator("#messageArea :is(.sender, .bubble)")
    .evaluateAll((all) => all.map((element) => getComputedStyle(element).unicodeBidi));
  expect(directions.every((value) => /isolate|plaintext/.test(value))).toBe(true);
  const notices = guest.notices.locator("bdi");
  await expect(notices).toHaveCount(1);
});

test("a hostile sender is text", async ({ server, talker }) => {
  const room = await makeRoom(server, "누구세요");
  const reader = await (await talker("철수")).enter(room);
  const hostileName = "<img src=x onerror=alert(1)>";
  const writer = await (await talker(hostileName)).enter(room);
  await writer.say("안녕");
  await expect(reader.page.locator("#messageArea .sender")).toHaveText([hostileName]);
  await expect(reader.notices.last()).toHaveText(`${hostileName}님이 입장하였습니다.`);
  await reader.page.goto(path(room));
  await reader.is("online");
  await expect(reader.page.locator("#messageArea .sender")).toHaveText([hostileName]);
  await expect(reader.page.locator("#messageArea img")).toHaveCount(0);
});
