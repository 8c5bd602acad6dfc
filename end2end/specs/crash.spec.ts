import { makeRoom, messages, said } from "../support/api.ts";
import { SOCKET_LOST, expect, test } from "../support/test.ts";
import type { Talker } from "../support/talker.ts";

test.use({ provoked: SOCKET_LOST });
test.describe.configure({ timeout: 120_000 });

/** What a page shows as being on disk. */
async function acknowledged(talker: Talker): Promise<string[]> {
  return talker.page.locator("#messageArea [data-own=true][data-state=stored] .bubble").allTextContents();
}

test("after kill -9 everything comes back, once and in order", async ({ server, talker }) => {
  const room = await makeRoom(server, "끊겨도");
  const both = [await (await talker("영희")).enter(room), await (await talker("철수")).enter(room)];
  const written = new Map<Talker, string[]>(both.map((speaker) => [speaker, []]));
  const say = async (speaker: Talker, text: string) => {
    written.get(speaker)?.push(`${speaker.sender} ${text}`);
    await speaker.say(`${speaker.sender} ${text}`);
  };
  let killed = Promise.resolve();
  await Promise.all(
    both.map(async (speaker) => {
      for (let n = 1; n <= 12; n++) {
        await say(speaker, `${n}`);
        if (n === 6 && speaker === both[0]) {
          killed = server.kill9();
        }
      }
    }),
  );
  await killed;
  const before: string[] = [];
  for (const speaker of both) {
    await speaker.is("offline");
    await expect(speaker.connection).toBeVisible();
    await expect(speaker.connection).toContainText("연결이 끊겼습니다");
    before.push(...(await acknowledged(speaker)));
  }
  expect(before.length).toBeGreaterThan(0);
  for (const speaker of both) {
    await say(speaker, "없는 동안");
    await expect(speaker.own.last()).toHaveAttribute("data-state", "sending");
  }
  await server.restart();
  for (const speaker of both) {
    await speaker.is("online");
    await speaker.allStored(13);
    await expect(speaker.own.locator(".bubble")).toHaveText(written.get(speaker) ?? []);
    await expect(speaker.bubbles).toHaveCount(26);
  }
  const stored = await said(server, room);
  expect(new Set(stored).size).toBe(26);
  expect(stored).toHaveLength(26);
  expect(stored).toEqual(expect.arrayContaining(before));
  for (const speaker of both) {
    expect(stored.filter((text) => text.startsWith(speaker.sender))).toEqual(written.get(speaker));
    await speaker.sees(stored);
  }
  const seqs = (await messages(server, room)).map(({ seq }) => seq);
  expect(seqs).toEqual(seqs.map((_, index) => index + 1));
  // Nobody has gone: to come back in time is no new entrance.
  await expect(both[0].notices).toHaveText(["영희님이 입장하였습니다.", "철수님이 입장하였습니다."]);
  await say(both[0], "다시 잘 됩니다");
  await expect(both[1].bubbles.last()).toHaveText("영희 다시 잘 됩니다");
});

test("a page that is reloaded after the crash shows the same", async ({ server, talker }) => {
  const room = await makeRoom(server, "다시 열기");
  const guest = await (await talker("영희")).enter(room);
  await guest.say("적어 두자");
  await guest.allStored(1);
  await server.kill9();
  await guest.is("offline");
  await server.restart();
  await guest.page.reload();
  await guest.is("online");
  await guest.sees(["적어 두자"]);
  await expect(guest.own).toHaveCount(1);
});

test("the list of rooms comes back, with what was made meanwhile", async ({ server, talker }) => {
  await makeRoom(server, "먼저");
  const reader = await (await talker("영희")).list();
  await server.kill9();
  await reader.is("offline");
  await server.restart();
  await makeRoom(server, "나중");
  await reader.is("online");
  await expect(reader.rooms.locator(".room-title")).toHaveText(["나중", "먼저"]);
});

test("a server that is stopped in peace closes kindly, and pages come back", async ({ server, talker }) => {
  const room = await makeRoom(server, "쉬는 시간");
  const guest = await (await talker("영희")).enter(room);
  await guest.say("멈추기 전");
  await guest.allStored(1);
  expect(await server.stop()).toBe(0);
  await guest.is("offline");
  await guest.say("멈춘 동안");
  await server.restart();
  await guest.is("online");
  await guest.allStored(2);
  await guest.sees(["멈추기 전", "멈춘 동안"]);
});

test("where the log goes on under another epoch the page begins anew", async ({ server, talker }) => {
  const room = await makeRoom(server, "다른 시대");
  const guest = await (await talker("영희")).enter(room);
  await guest.say("하나");
  await guest.allStored(1);
  await guest.page.evaluate(() => document.body.classList.add("as-it-was"));
  // The same course of the log: nothing of the page goes.
  await server.kill9();
  await guest.is("offline");
  await server.restart();
  await guest.is("online");
  await expect(guest.page.locator("body")).toHaveClass(/as-it-was/);
  // Without its mark nobody can tell whether the database is the newest.
  await server.kill9();
  await guest.is("offline");
  await server.forgetMark();
  await server.restart();
  await expect(guest.page.locator("body")).not.toHaveClass(/as-it-was/);
  await guest.is("online");
  await guest.sees(["하나"]);
  await guest.say("둘");
  await guest.allStored(2);
});
