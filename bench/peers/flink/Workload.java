import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.Serializable;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** What the bench gives to a peer, in memory before anything is timed. Instants are milliseconds, as Flink has them. */
final class Workload {
    private static final ObjectMapper JSON = new ObjectMapper();
    static final long DAY = 86_400_000L;

    final List<Event> events = new ArrayList<>();
    final List<Segment> segments = new ArrayList<>();
    final long until;

    /** An event. Public fields, so that Flink serialises it as a POJO. */
    public static final class Event {
        public long user;
        public String activity;
        public String category;
        public long at;
    }

    /** At least so many events of one activity and category in the last days. */
    record Segment(int id, String activity, String category, long window, int atLeast) implements Serializable {}

    Workload(Path folder) throws IOException {
        for (String line : Files.readAllLines(folder.resolve("events.ndjson"))) {
            JsonNode read = JSON.readTree(line);
            Event event = new Event();
            event.user = read.get("user").asLong();
            event.activity = read.get("activity").asText();
            event.category = read.get("category").asText();
            event.at = read.get("at").asLong() / 1_000;
            events.add(event);
        }
        JsonNode described = JSON.readTree(folder.resolve("segments.json").toFile());
        until = described.get("until").asLong() / 1_000;
        for (JsonNode read : described.get("segments")) {
            segments.add(new Segment(
                    read.get("id").asInt(),
                    read.get("activity").asText(),
                    read.get("category").asText(),
                    read.get("days").asLong() * DAY,
                    read.get("at_least").asInt()));
        }
    }
}
