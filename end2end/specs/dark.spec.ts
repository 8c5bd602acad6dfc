import { makeRoom, seed } from "../support/api.ts";
import { expect, test } from "../support/test.ts";

type Colour = [number, number, number];

/** WCAG 2.2, "contrast ratio". */
function contrast(a: Colour, b: Colour): number {
  const luminance = (colour: Colour) => {
    const [red, green, blue] = colour.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (light + 0.05) / (dark + 0.05);
}

const seen: Record<string, Record<string, { text: Colour; ground: Colour }>> = {};

test.describe.configure({ mode: "serial" });

for (const colorScheme of ["light", "dark"] as const) {
  test(`text can be read in ${colorScheme}`, async ({ browser, server, talker }) => {
    const room = await makeRoom(server, "낮과 밤");
    await seed(browser, server, room, "철수", ["남의 말"]);
    const guest = await (await talker("영희", { colorScheme })).enter(room);
    await guest.say("내 말");
    await guest.allStored(1);
    seen[colorScheme] = {};
    for (const selector of [
      "#room_name",
      "[data-own=true] .bubble",
      "[data-own=false] .bubble",
      ".message .face",
      ".sender",
      ".notice",
      ".day",
      "time",
      ".room-title",
      ".room-count",
      ".brand-name",
      "a[hreflang]",
      ".composer-send",
      "#messageInput",
      ".room-head button",
      "#roomName",
    ]) {
      const colours = await guest.page
        .locator(selector)
        .first()
        .evaluate((element) => {
          const rgb = (colour: string) => (colour.match(/[\d.]+/g) ?? []).map(Number);
          let ground: Element | null = element;
          while (ground && rgb(getComputedStyle(ground).backgroundColor)[3] === 0) {
            ground = ground.parentElement;
          }
          return {
            text: rgb(getComputedStyle(element).color).slice(0, 3),
            ground: rgb(getComputedStyle(ground ?? document.documentElement).backgroundColor).slice(0, 3),
          } as { text: Colour; ground: Colour };
        });
      seen[colorScheme][selector] = colours;
      const { text, ground } = colours;
      expect(contrast(text, ground), `${selector}: ${text} on ${ground}`).toBeGreaterThanOrEqual(4.5);
    }
    const theme = await guest.page.evaluate(
      () => [...document.querySelectorAll<HTMLMetaElement>("meta[name=theme-color]")].find(({ media }) => matchMedia(media).matches)?.content,
    );
    expect(theme).toBe(colorScheme === "light" ? "#fffdf9" : "#1b1e23");
  });
}

test("light and dark are two things", async () => {
  const luminous = ([red, green, blue]: Colour) => red + green + blue;
  for (const selector of ["#room_name", "[data-own=true] .bubble", "[data-own=false] .bubble", ".room-title"]) {
    const { light, dark } = { light: seen.light[selector], dark: seen.dark[selector] };
    expect(luminous(light.ground), `${selector}: ground`).toBeGreaterThan(luminous(dark.ground) + 300);
    expect(luminous(light.text), `${selector}: text`).toBeLessThan(luminous(dark.text) - 300);
  }
});

test("a page changes with the system, with no reload", async ({ talker }) => {
  const guest = await (await talker("영희", { colorScheme: "light" })).list();
  const html = guest.page.locator("html");
  await expect(html).toHaveCSS("background-color", "rgb(250, 246, 238)");
  await guest.page.emulateMedia({ colorScheme: "dark" });
  await expect(html).toHaveCSS("background-color", "rgb(20, 22, 26)");
});

test("nothing moves for who wants no motion", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "가만히");
  await seed(browser, server, room, "철수", Array.from({ length: 60 }, (_, n) => `메시지 ${n}`));
  const guest = await (await talker("영희", { reducedMotion: "reduce" })).enter(room);
  await guest.bubbles.first().scrollIntoViewIfNeeded();
  await seed(browser, server, room, "철수", ["새것"]);
  const newer = guest.page.locator(".newer-button");
  await expect(newer).toBeVisible();
  await expect(newer).toHaveCSS("animation-name", "none");
});
