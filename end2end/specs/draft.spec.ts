import { makeRoom } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import { path, Talker } from "../support/talker.ts";

test("what stands in the field survives a reload, a closed tab and a walk, for each room", async ({ server, talker }) => {
  const first = await makeRoom(server, "하나");
  const second = await makeRoom(server, "둘");
  const guest = await (await talker("영희")).enter(first);
  const written = "아직 다\n쓰지 않은 말";
  await guest.input.fill(written);
  await guest.page.reload();
  await guest.is("online");
  await expect(guest.input).toHaveValue(written);
  await guest.page.getByRole("link", { name: "둘" }).click();
  await expect(guest.page.locator("#room_name")).toContainText("둘");
  await expect(guest.input).toHaveValue("");
  await guest.input.fill("다른 말");
  await guest.page.getByRole("link", { name: "하나" }).click();
  await expect(guest.page.locator("#room_name")).toContainText("하나");
  await expect(guest.input).toHaveValue(written);
  const { context } = { context: guest.page.context() };
  await guest.page.close({ runBeforeUnload: false });
  const back = await new Talker(await context.newPage(), "영희").enter(second);
  await expect(back.input).toHaveValue("다른 말");
  await back.input.press("Enter");
  await back.allStored(1);
  await back.page.reload();
  await back.is("online");
  await expect(back.input).toHaveValue("");
  await back.enter(first);
  await expect(back.input).toHaveValue(written);
  await back.input.fill("");
  await back.page.reload();
  await back.is("online");
  await expect(back.input).toHaveValue("");
  const kept = await back.page.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith("draft:")));
  expect(kept).toEqual([]);
});

test("what is typed before the page is alive is not written over, and kept", async ({ server, talker }) => {
  const room = await makeRoom(server, "일찍");
  const guest = await (await talker("영희")).enter(room);
  await guest.input.fill("옛 글");
  let load = () => {};
  const held = new Promise<void>((resolve) => (load = resolve));
  await guest.page.route("**/*.wasm", async (route) => {
    await held;
    await route.continue();
  });
  await guest.page.goto(path(room), { waitUntil: "commit" });
  await guest.input.fill("새 글");
  load();
  await guest.is("online");
  await expect(guest.input).toHaveValue("새 글");
  await guest.page.reload();
  await guest.is("online");
  await expect(guest.input).toHaveValue("새 글");
});

test("what asks for a name first, or is too long, stays over a reload", async ({ server, talker }) => {
  const room = await makeRoom(server, "이름 없이");
  const guest = await (await talker()).enter(room);
  await guest.page.keyboard.press("Escape");
  await guest.say("이름 없이 쓴 말");
  await expect(guest.dialog).toBeVisible();
  await guest.page.reload();
  await guest.is("online");
  await expect(guest.dialog).toBeVisible();
  await expect(guest.input).toHaveValue("이름 없이 쓴 말");
  await guest.name.fill("영희");
  await guest.name.press("Enter");
  const long = "글".repeat(4001);
  await guest.say(long);
  await expect(guest.page.getByRole("alert")).toBeVisible();
  await guest.page.reload();
  await guest.is("online");
  await expect(guest.input).toHaveValue(long);
});

test("fifty drafts are kept, the oldest go", async ({ server, talker }) => {
  const room = await makeRoom(server, "쉰하나째");
  const guest = await talker("영희");
  const old = Array.from({ length: 50 }, (_, n) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`);
  await guest.page.addInitScript((old) => {
    if (localStorage.getItem("drafts") === null) {
      localStorage.setItem("drafts", old.join(" "));
      old.forEach((id) => localStorage.setItem(`draft:${id}`, "옛 글"));
    }
  }, old);
  await guest.enter(room);
  await guest.input.fill("새 글");
  const kept = await guest.page.evaluate(() =>
    Object.keys(localStorage)
      .filter((key) => key.startsWith("draft:"))
      .map((key) => key.slice(6)),
  );
  expect(kept.sort()).toEqual([...old.slice(1), room.roomId].sort());
});

test("where the storage is closed one writes and sends all the same", async ({ server, talker }) => {
  const room = await makeRoom(server, "닫힌 곳간");
  const guest = await talker();
  await guest.page.addInitScript(() => {
    Object.defineProperty(window, "localStorage", {
      get() {
        throw new DOMException("closed", "SecurityError");
      },
    });
  });
  await guest.enter(room);
  await guest.name.fill("영희");
  await guest.name.press("Enter");
  await guest.input.pressSequentially("그래도");
  await guest.input.press("Enter");
  await guest.allStored(1);
  await guest.sees(["그래도"]);
});
