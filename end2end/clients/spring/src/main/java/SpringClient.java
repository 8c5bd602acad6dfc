import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.reflect.Type;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;

import org.springframework.messaging.simp.stomp.StompCommand;
import org.springframework.messaging.simp.stomp.StompFrameHandler;
import org.springframework.messaging.simp.stomp.StompHeaders;
import org.springframework.messaging.simp.stomp.StompSession;
import org.springframework.messaging.simp.stomp.StompSessionHandlerAdapter;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;
import org.springframework.web.socket.client.WebSocketClient;
import org.springframework.web.socket.client.standard.StandardWebSocketClient;
import org.springframework.web.socket.messaging.WebSocketStompClient;
import org.springframework.web.socket.sockjs.client.RestTemplateXhrTransport;
import org.springframework.web.socket.sockjs.client.SockJsClient;
import org.springframework.web.socket.sockjs.client.WebSocketTransport;

/**
 * Spring's own client against a server, over WebSocket and over its SockJsClient's WebSocket and XHR,
 * side by side. Arguments: the broker's address, a room's id for each. Says each step as a line on
 * standard output once all are there, reads a line from standard input where the server is to be
 * restarted, and exits with 0 when all of it held.
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

    private final String name;
    private final WebSocketClient transport;
    private final String room;

    private SpringClient(String name, WebSocketClient transport, String roomId) {
        this.name = name;
        this.transport = transport;
        this.room = "/topic/chat/room/" + roomId;
    }

    public static void main(String[] arguments) {
        String broker = arguments[0];
        List<SpringClient> clients = List.of(
                new SpringClient("websocket", new StandardWebSocketClient(), arguments[1]),
                new SpringClient(
                        "sockjs-websocket",
                        new SockJsClient(List.of(new WebSocketTransport(new StandardWebSocketClient()))),
                        arguments[2]),
                new SpringClient("sockjs-xhr", new SockJsClient(List.of(new RestTemplateXhrTransport())), arguments[3]));
        Steps steps = new Steps(clients.size());
        for (SpringClient client : clients) {
            new Thread(() -> {
                try {
                    client.run(broker, steps);
                } catch (Throwable failure) {
                    failure.printStackTrace();
                    fail(client.name + ": " + failure);
                }
            }).start();
        }
    }

    /** Says a step once all have come to it. */
    private static final class Steps {
        private final CyclicBarrier barrier;
        private volatile String words;

        Steps(int clients) {
            barrier = new CyclicBarrier(clients, this::say);
        }

        void step(String next) throws InterruptedException, BrokenBarrierException {
            words = next;
            barrier.await();
        }

        private void say() {
            System.out.println(words);
            System.out.flush();
            if (words.equals("restart the server")) {
                try {
                    System.in.read();
                } catch (IOException error) {
                    throw new UncheckedIOException(error);
                }
            } else if (words.equals("done")) {
                System.exit(0);
            }
        }
    }

    private void run(String broker, Steps steps) throws Exception {
        ThreadPoolTaskScheduler scheduler = new ThreadPoolTaskScheduler();
        scheduler.initialize();
        WebSocketStompClient client = new WebSocketStompClient(transport);
        client.setTaskScheduler(scheduler);

        Handler handler = new Handler();
        StompSession session = client.connectAsync(broker, handler).get(SOON_SECONDS, TimeUnit.SECONDS);
        session.setAutoReceipt(true);

        steps.step("talks, with receipts");
        Ears ears = new Ears();
        awaitReceipt(session.subscribe(room, ears));
        awaitReceipt(session.send(room, talk("하나")));
        require(ears.next().body().contains("하나"), "another message came");

        steps.step("acknowledges and gives back");
        StompHeaders work = new StompHeaders();
        work.setDestination("/queue/" + name);
        work.setAck("client-individual");
        Ears worker = new Ears();
        StompSession.Subscription subscription = session.subscribe(work, worker);
        awaitReceipt(subscription);
        for (String body : List.of("one", "two")) {
            awaitReceipt(session.send("/queue/" + name, body.getBytes(StandardCharsets.UTF_8)));
        }
        awaitReceipt(session.acknowledge(worker.next().headers().getFirst("ack"), true));
        awaitReceipt(session.acknowledge(worker.next().headers().getFirst("ack"), false));
        Heard again = worker.next();
        require(again.body().equals("two"), "it was not given back");
        awaitReceipt(session.acknowledge(again.headers().getFirst("ack"), true));
        subscription.unsubscribe();

        steps.step("keeps alive");
        // Its default is one heart-beat every ten seconds each way; it is dropped after thirty without.
        require(!handler.lost.await(35, TimeUnit.SECONDS), "the connection was lost");
        require(session.isConnected(), "the session has ended");
        awaitReceipt(session.send(room, talk("둘")));
        require(ears.next().body().contains("둘"), "another message came");

        steps.step("restart the server");
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
        steps.step("done");
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
            throw new IllegalStateException(otherwise);
        }
    }

    private static void fail(String words) {
        System.err.println(words);
        System.exit(1);
    }
}
