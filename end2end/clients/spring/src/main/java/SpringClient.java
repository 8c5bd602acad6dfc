import java.lang.reflect.Type;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

import org.springframework.messaging.simp.stomp.StompCommand;
import org.springframework.messaging.simp.stomp.StompFrameHandler;
import org.springframework.messaging.simp.stomp.StompHeaders;
import org.springframework.messaging.simp.stomp.StompSession;
import org.springframework.messaging.simp.stomp.StompSessionHandlerAdapter;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;
import org.springframework.web.socket.client.standard.StandardWebSocketClient;
import org.springframework.web.socket.messaging.WebSocketStompClient;

/**
 * Spring's own client against a server. Arguments: the broker's address, a room's id. Says each step
 * as a line on standard output, reads a line from standard input where the server is to be restarted,
 * and exits with 0 when all of it held.
 */
public final class SpringClient {
    private static final int SOON_SECONDS = 30;

    private record Heard(StompHeaders headers, String body) {}

    private static final class Ears implements StompFrameHandler {
        final BlockingQueue<Heard> heard = new ArrayBlockingQueue<>(100);

        @Override
        public Type getPayloadType(StompHeaders headers) {
            return byte[].class;
        }

        @Override
        public void handleFrame(StompHeaders headers, Object payload) {
            heard.add(new Heard(headers, new String((byte[]) payload, StandardCharsets.UTF_8)));
        }

        Heard next() throws InterruptedException {
            Heard next = heard.poll(SOON_SECONDS, TimeUnit.SECONDS);
            require(next != null, "no message came");
            return next;
        }
    }

    private static final class Handler extends StompSessionHandlerAdapter {
        final CountDownLatch lost = new CountDownLatch(1);

        @Override
        public void handleException(
                StompSession session, StompCommand command, StompHeaders headers, byte[] payload, Throwable exception) {
            throw new IllegalStateException(exception);
        }

        @Override
        public void handleTransportError(StompSession session, Throwable exception) {
            lost.countDown();
        }
    }

    public static void main(String[] arguments) throws Exception {
        String broker = arguments[0];
        String room = "/topic/chat/room/" + arguments[1];
        ThreadPoolTaskScheduler scheduler = new ThreadPoolTaskScheduler();
        scheduler.initialize();
        WebSocketStompClient client = new WebSocketStompClient(new StandardWebSocketClient());
        client.setTaskScheduler(scheduler);

        Handler handler = new Handler();
        StompSession session = client.connectAsync(broker, handler).get(SOON_SECONDS, TimeUnit.SECONDS);
        session.setAutoReceipt(true);

        step("talks, with receipts");
        Ears ears = new Ears();
        awaitReceipt(session.subscribe(room, ears));
        awaitReceipt(session.send(room, talk("하나")));
        require(ears.next().body().contains("하나"), "another message came");

        step("acknowledges and gives back");
        StompHeaders work = new StompHeaders();
        work.setDestination("/queue/work");
        work.setAck("client-individual");
        Ears worker = new Ears();
        StompSession.Subscription subscription = session.subscribe(work, worker);
        awaitReceipt(subscription);
        for (String body : List.of("one", "two")) {
            awaitReceipt(session.send("/queue/work", body.getBytes(StandardCharsets.UTF_8)));
        }
        awaitReceipt(session.acknowledge(worker.next().headers().getFirst("ack"), true));
        awaitReceipt(session.acknowledge(worker.next().headers().getFirst("ack"), false));
        Heard again = worker.next();
        require(again.body().equals("two"), "it was not given back");
        awaitReceipt(session.acknowledge(again.headers().getFirst("ack"), true));
        subscription.unsubscribe();

        step("keeps alive");
        // Its default is one heart-beat every ten seconds each way; it is dropped after thirty without.
        require(!handler.lost.await(35, TimeUnit.SECONDS), "the connection was lost");
        require(session.isConnected(), "the session has ended");
        awaitReceipt(session.send(room, talk("둘")));
        require(ears.next().body().contains("둘"), "another message came");

        step("restart the server");
        System.in.read();
        require(handler.lost.await(SOON_SECONDS, TimeUnit.SECONDS), "the loss went unnoticed");
        session = client.connectAsync(broker, new Handler()).get(SOON_SECONDS, TimeUnit.SECONDS);
        session.setAutoReceipt(true);
        StompHeaders again2 = new StompHeaders();
        again2.setDestination(room);
        again2.set("x-stream-offset", "offset=2");
        Ears back = new Ears();
        awaitReceipt(session.subscribe(again2, back));
        awaitReceipt(session.send(room, talk("셋")));
        require(back.next().body().contains("둘"), "what was missed did not come");
        require(back.next().body().contains("셋"), "what is new did not come");
        session.disconnect();
        step("done");
        System.exit(0);
    }

    private static byte[] talk(String text) {
        String json = "{\"type\":\"TALK\",\"sender\":\"Spring\",\"message\":\"" + text + "\"}";
        return json.getBytes(StandardCharsets.UTF_8);
    }

    private static void awaitReceipt(StompSession.Receiptable receiptable) throws InterruptedException {
        CountDownLatch received = new CountDownLatch(1);
        receiptable.addReceiptTask(received::countDown);
        require(received.await(SOON_SECONDS, TimeUnit.SECONDS), "no RECEIPT came");
    }

    private static void require(boolean holds, String otherwise) {
        if (!holds) {
            System.err.println(otherwise);
            System.exit(1);
        }
    }

    private static void step(String words) {
        System.out.println(words);
        System.out.flush();
    }
}
