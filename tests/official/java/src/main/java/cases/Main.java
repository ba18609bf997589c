package cases;

import com.microsoft.signalr.HttpHubConnectionBuilder;
import com.microsoft.signalr.HubConnection;
import com.microsoft.signalr.HubConnectionBuilder;
import com.microsoft.signalr.TransportEnum;
import io.reactivex.rxjava3.core.Observable;
import io.reactivex.rxjava3.core.Single;
import io.reactivex.rxjava3.disposables.Disposable;
import io.reactivex.rxjava3.subjects.ReplaySubject;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** The official Java client against a server with the conformance hub: a line a case, then the sums. */
public final class Main {
    private static final String ROOT = System.getenv().getOrDefault("SIGNALR_URL", "http://127.0.0.1:5000");
    private static final String SECRET = System.getenv().getOrDefault("SIGNALR_JWT_SECRET", "");
    private static final int SECONDS = 20;

    /** The members are named as on the wire. */
    private static final class Complex {
        String Id;
        String Text;
        int Count;
        double Ratio;
        boolean Flag;
        Boolean Nothing;
        String Bytes;
        List<Integer> Numbers;
        Map<String, String> Tags;
        Child Child;
    }

    private static final class Child {
        String Text;
        List<Integer> Numbers;
    }

    private interface Case {
        void run(TransportEnum transport) throws Exception;
    }

    public static void main(String[] arguments) {
        int passed = 0;
        int failed = 0;
        for (TransportEnum transport : new TransportEnum[] {TransportEnum.WEBSOCKETS, TransportEnum.LONG_POLLING}) {
            for (Map.Entry<String, Case> entry : cases().entrySet()) {
                if (transport == TransportEnum.LONG_POLLING && entry.getKey().contains("goes up")) {
                    // Over long polling this client sends posts side by side: the end of a stream overtakes its items.
                    continue;
                }
                String name = "java: " + entry.getKey() + " [" + transport + "]";
                try {
                    entry.getValue().run(transport);
                    passed++;
                    System.out.println("ok    " + name);
                } catch (Throwable error) {
                    failed++;
                    System.out.println("FAIL  " + name + "\n      " + error);
                }
            }
        }
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }

    private static Map<String, Case> cases() {
        Map<String, Case> cases = new LinkedHashMap<>();
        cases.put("a text comes back", Main::echo);
        cases.put("the sum of two numbers", Main::add);
        cases.put("a complex value comes back", Main::complex);
        cases.put("a method without a result", Main::nothing);
        cases.put("a wrong number of arguments fails", Main::wrongArguments);
        cases.put("an internal error keeps its text", Main::internalError);
        cases.put("an error for the caller brings its text", Main::hubError);
        cases.put("an unknown method fails", Main::unknownMethod);
        cases.put("300 sends take effect", Main::sends);
        cases.put("the server calls with two arguments", Main::called);
        cases.put("the server calls 300 times in order", Main::calledOften);
        cases.put("the server asks and gets its answer", Main::asked);
        cases.put("the server asks and the handler fails", Main::askedInVain);
        cases.put("a stream comes down in order", Main::counter);
        cases.put("a stream fails midway", Main::streamFails);
        cases.put("a stream is cancelled", Main::streamCancelled);
        cases.put("a stream goes up", Main::upload);
        cases.put("a stream that fails goes up", Main::uploadFails);
        cases.put("a stream goes up and comes back", Main::uploadEcho);
        cases.put("members of a group hear", Main::group);
        cases.put("the id is the server's", Main::connectionId);
        cases.put("a header arrives", Main::header);
        cases.put("a megabyte comes down", Main::large);
        cases.put("a token makes a user", Main::user);
        cases.put("without a token it is refused", Main::noToken);
        cases.put("closed by the server, it knows", Main::abort);
        cases.put("stopped and started again", Main::startedAgain);
        return cases;
    }

    private static HttpHubConnectionBuilder at(String path, TransportEnum transport) {
        return HubConnectionBuilder.create(ROOT + path).withTransport(transport);
    }

    private static HubConnection open(TransportEnum transport) {
        HubConnection hub = at("/conformance", transport).build();
        start(hub);
        return hub;
    }

    private static void start(HubConnection hub) {
        if (!hub.start().blockingAwait(SECONDS, TimeUnit.SECONDS)) {
            throw new AssertionError("it does not start");
        }
    }

    /** Over long polling this client's last poll may meet the end that it has just asked for, and stop() then fails. */
    private static void stop(HubConnection hub, TransportEnum transport) {
        try {
            hub.stop().blockingAwait(SECONDS, TimeUnit.SECONDS);
        } catch (RuntimeException error) {
            boolean isLastPoll = String.valueOf(error.getMessage()).contains("Unexpected response code 404");
            if (transport != TransportEnum.LONG_POLLING || !isLastPoll) {
                throw error;
            }
        }
    }

    private static <T> T soon(Single<T> single) {
        return single.timeout(SECONDS, TimeUnit.SECONDS).blockingGet();
    }

    private static <T> List<T> all(Observable<T> items) {
        return items.timeout(SECONDS, TimeUnit.SECONDS).toList().blockingGet();
    }

    private static <T> T next(BlockingQueue<T> queue) throws InterruptedException {
        T item = queue.poll(SECONDS, TimeUnit.SECONDS);
        if (item == null) {
            throw new AssertionError("nothing came");
        }
        return item;
    }

    private static void same(Object got, Object expected) {
        if (!expected.equals(got)) {
            throw new AssertionError("got " + got + ", expected " + expected);
        }
    }

    private static void failsWith(Single<?> call, String part) {
        try {
            call.timeout(SECONDS, TimeUnit.SECONDS).blockingGet();
        } catch (RuntimeException error) {
            String text = String.valueOf(error.getMessage());
            if (!text.contains(part)) {
                throw new AssertionError("failed with: " + text);
            }
            return;
        }
        throw new AssertionError("it did not fail");
    }

    private static void echo(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            for (String text : new String[] {"", "hello", "\u001e \" \\ 日本語 🦀"}) {
                same(soon(hub.invoke(String.class, "Echo", text)), text);
            }
        }
    }

    private static void add(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            same(soon(hub.invoke(Integer.class, "Add", 2, 3)), 5);
        }
    }

    private static void complex(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            Complex made = soon(hub.invoke(Complex.class, "MakeComplex"));
            same(made.Text, "made by the server");
            made.Text = "sent back";
            Complex back = soon(hub.invoke(Complex.class, "EchoComplex", made));
            same(back.Text, "sent back");
            same(back.Numbers, List.of(1, 2, 3));
            same(back.Tags, Map.of("k", "v"));
            same(back.Bytes, "AQID");
            same(back.Child.Numbers, List.of(9));
        }
    }

    private static void nothing(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            if (!hub.invoke("DoNothing").blockingAwait(SECONDS, TimeUnit.SECONDS)) {
                throw new AssertionError("no answer");
            }
        }
    }

    private static void wrongArguments(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            failsWith(hub.invoke(Integer.class, "Add", 1), "Failed to invoke 'Add'");
        }
    }

    private static void internalError(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            failsWith(hub.invoke(String.class, "Throw", "s3cret"), "invoking 'Throw' on the server.");
        }
    }

    private static void hubError(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            failsWith(hub.invoke(String.class, "ThrowHubError", "not today"), "not today");
        }
    }

    private static void unknownMethod(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            failsWith(hub.invoke(String.class, "NoSuchMethod"), "Method does not exist");
        }
    }

    private static void sends(TransportEnum transport) throws Exception {
        try (HubConnection hub = open(transport)) {
            String list = "java-" + System.nanoTime();
            for (int n = 0; n < 300; n++) {
                hub.send("Note", list, n);
            }
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS);
            Integer[] got;
            do {
                got = soon(hub.invoke(Integer[].class, "Notes", list));
            } while (got.length < 300 && System.nanoTime() < deadline);
            same(inOrderOf(transport, Arrays.asList(got)), upTo(300));
        }
    }

    private static void called(TransportEnum transport) throws Exception {
        try (HubConnection hub = open(transport)) {
            BlockingQueue<String> heard = new LinkedBlockingQueue<>();
            hub.on("hear", (number, text) -> heard.add(number + text), Integer.class, String.class);
            hub.invoke("CallMe", "hear", new Object[] {1, "two"}).blockingAwait(SECONDS, TimeUnit.SECONDS);
            same(next(heard), "1two");
        }
    }

    private static void calledOften(TransportEnum transport) throws Exception {
        try (HubConnection hub = open(transport)) {
            BlockingQueue<Integer> heard = new LinkedBlockingQueue<>();
            hub.on("hear", heard::add, Integer.class);
            hub.send("CallMany", "hear", 300, 0);
            for (int n = 0; n < 300; n++) {
                same(next(heard), n);
            }
        }
    }

    private static void asked(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            hub.onWithResult("double", number -> Single.just(number * 2), Integer.class);
            same(soon(hub.invoke(Integer.class, "AskMe", "double", 21)), 42);
        }
    }

    private static void askedInVain(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            hub.<Integer, Integer>onWithResult(
                "double", number -> Single.error(new RuntimeException("out of paper")), Integer.class);
            failsWith(hub.invoke(Integer.class, "AskMe", "double", 21), "out of paper");
        }
    }

    /** Over long polling this client sends several posts side by side, so their order says nothing about the server. */
    private static List<Integer> inOrderOf(TransportEnum transport, List<Integer> got) {
        List<Integer> numbers = new ArrayList<>(got);
        if (transport == TransportEnum.LONG_POLLING) {
            Collections.sort(numbers);
        }
        return numbers;
    }

    private static List<Integer> upTo(int count) {
        List<Integer> numbers = new ArrayList<>();
        for (int n = 0; n < count; n++) {
            numbers.add(n);
        }
        return numbers;
    }

    private static void counter(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            same(all(hub.stream(Integer.class, "Counter", 100, 1)), upTo(100));
        }
    }

    private static void streamFails(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            failsWith(hub.stream(Integer.class, "CounterThenThrow", 3, "midway").toList(), "midway");
        }
    }

    private static void streamCancelled(TransportEnum transport) throws Exception {
        try (HubConnection hub = open(transport)) {
            BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();
            BlockingQueue<Integer> items = new LinkedBlockingQueue<>();
            hub.on("StreamCanceled", cancelled::add, String.class);
            Disposable stream = hub.stream(Integer.class, "Endless", 1, "tag").subscribe(items::add);
            same(next(items), 0);
            same(next(items), 1);
            stream.dispose();
            same(next(cancelled), "tag");
        }
    }

    private static void upload(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            ReplaySubject<Integer> numbers = ReplaySubject.create();
            upTo(101).forEach(numbers::onNext);
            numbers.onComplete();
            same(soon(hub.invoke(Integer.class, "UploadSum", numbers)), 5050);
        }
    }

    private static void uploadFails(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            ReplaySubject<Integer> numbers = ReplaySubject.create();
            numbers.onNext(1);
            numbers.onError(new RuntimeException("ran dry"));
            failsWith(hub.invoke(Integer.class, "UploadSum", numbers), "UploadSum");
        }
    }

    private static void uploadEcho(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            ReplaySubject<Integer> numbers = ReplaySubject.create();
            upTo(200).forEach(numbers::onNext);
            numbers.onComplete();
            same(all(hub.stream(Integer.class, "UploadEcho", numbers)), upTo(200));
        }
    }

    private static void group(TransportEnum transport) throws Exception {
        try (HubConnection member = open(transport); HubConnection sender = open(transport)) {
            String group = "java-" + System.nanoTime();
            BlockingQueue<String> heard = new LinkedBlockingQueue<>();
            member.on("hear", heard::add, String.class);
            member.invoke("JoinGroup", group).blockingAwait(SECONDS, TimeUnit.SECONDS);
            sender.send("SendToGroup", group, "hear", "news");
            same(next(heard), "news");
        }
    }

    private static void connectionId(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            same(soon(hub.invoke(String.class, "GetConnectionId")), hub.getConnectionId());
        }
    }

    private static void header(TransportEnum transport) {
        try (HubConnection hub = at("/conformance", transport).withHeader("x-site", "lyon").build()) {
            start(hub);
            same(soon(hub.invoke(String.class, "GetHeader", "x-site")), "lyon");
        }
    }

    private static void large(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            same(soon(hub.invoke(String.class, "MakeLarge", 1_000_000)).length(), 1_000_000);
        }
    }

    private static void user(TransportEnum transport) throws Exception {
        Single<String> token = Single.just(mint("ada"));
        try (HubConnection hub = at("/conformance-authorized", transport).withAccessTokenProvider(token).build()) {
            start(hub);
            same(soon(hub.invoke(String.class, "GetUserId")), "ada");
        }
    }

    private static void noToken(TransportEnum transport) {
        try (HubConnection hub = at("/conformance-authorized", transport).build()) {
            failsWith(hub.start().toSingleDefault(0), "401");
        }
    }

    private static void abort(TransportEnum transport) throws Exception {
        try (HubConnection hub = open(transport)) {
            BlockingQueue<String> closed = new LinkedBlockingQueue<>();
            hub.onClosed(error -> closed.add("closed"));
            hub.send("Abort");
            same(next(closed), "closed");
        }
    }

    private static void startedAgain(TransportEnum transport) {
        try (HubConnection hub = open(transport)) {
            String first = hub.getConnectionId();
            stop(hub, transport);
            start(hub);
            same(soon(hub.invoke(Integer.class, "Add", 1, 1)), 2);
            if (hub.getConnectionId().equals(first)) {
                throw new AssertionError("the id is the same");
            }
        }
    }

    private static String mint(String user) throws Exception {
        Base64.Encoder base64 = Base64.getUrlEncoder().withoutPadding();
        long expires = System.currentTimeMillis() / 1000 + 3600;
        String head = base64.encodeToString("{\"alg\":\"HS256\",\"typ\":\"JWT\"}".getBytes(StandardCharsets.UTF_8));
        String claims = "{\"sub\":\"" + user + "\",\"exp\":" + expires + "}";
        String text = head + "." + base64.encodeToString(claims.getBytes(StandardCharsets.UTF_8));
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(SECRET.getBytes(StandardCharsets.UTF_8), "HmacSHA256"));
        return text + "." + base64.encodeToString(mac.doFinal(text.getBytes(StandardCharsets.UTF_8)));
    }

    private Main() {}
}
