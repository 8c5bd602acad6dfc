import { makeRoom, said } from "../support/api.ts";
import { SOCKET_LOST, expect, test } from "../support/test.ts";

// A session of SockJS that the server has ended meanwhile is not found.
test.use({ provoked: new RegExp(`${SOCKET_LOST.source}|net::ERR_|status of 404`) });

/** A page that may use no storage. */
function closeStorage(): void {
  for (const name of ["localStorage", "sessionStorage"]) {
    Object.defineProperty(window, name, {
      get: () => {
        throw new DOMException("denied", "SecurityError");
      },
    });
  }
}

for (const isStrict of [false, true]) {
  for (const state of ["online", "detour"] as const) {
    const storage = isStrict ? "nor storage " : "";
    test(`without cookies ${storage}one keeps one's name over a lost connection (${state})`, async ({
      server,
      cut,
      talker,
    }) => {
      const room = await makeRoom(server, "과자 없는 방");
      if (state === "detour") {
        cut.blockWebSocket();
      }
      const guest = await talker("영희", { at: cut.address });
      cut.dropCookies();
      if (isStrict) {
        await guest.page.addInitScript(closeStorage);
      }
      await guest.page.goto(`/chat/room/enter/${room.roomId}`);
      if (isStrict) {
        await guest.name.fill("영희");
        await guest.page.locator(".name-ok").click();
      }
      await guest.is(state);
      await guest.say("처음");
      await guest.allStored(1);
      expect(await guest.page.context().cookies()).toEqual([]);
      // The network goes without a word, so that the server still holds the old session.
      cut.silence();
      await guest.page.evaluate(() => dispatchEvent(new Event("online")));
      await cut.join();
      await guest.is(state);
      await expect(guest.dialog).toBeHidden();
      await guest.say("다시");
      await guest.allStored(2);
      expect(await said(server, room)).toEqual(["처음", "다시"]);
      // A guest's name, and no program's: another guest cannot have it.
      const other = await talker("영희");
      await other.page.goto(`/chat/room/enter/${room.roomId}`);
      await expect(other.dialog).toBeVisible();
    });
  }
}
