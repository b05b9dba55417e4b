import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.datagen.source.DataGeneratorSource;
import org.apache.flink.runtime.util.EnvironmentInformation;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.types.Row;

/** Runs a workload through Apache Flink in this process: {@code Peer WORKLOAD OUTPUT RUNS}. */
public final class Peer {
    private static final TypeInformation<Row> CHANGE = Types.ROW(Types.INT, Types.LONG);
    private static final String MEMBERS =
            "SELECT s.id, e.user_id FROM events e JOIN segments s ON e.activity = s.activity AND e.category = s.category "
                    + "WHERE e.happened >= s.since GROUP BY s.id, s.at_least, e.user_id HAVING COUNT(*) >= s.at_least";
    /** The job's source reads them from here: it runs in this process. */
    private static List<Workload.Event> events;

    private final Workload workload;
    private final int runs;

    private Peer(Workload workload, int runs) {
        this.workload = workload;
        this.runs = runs;
    }

    private interface Job {
        void run(StreamExecutionEnvironment environment) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        Workload workload = new Workload(Path.of(arguments[0]));
        events = workload.events;
        Peer peer = new Peer(workload, Integer.parseInt(arguments[2]));
        List<Map<String, Object>> answers = List.of(
                peer.measure("Apache Flink, keyed process function", "every event-time timer fires", true, peer::process),
                peer.measure("Apache Flink, SQL", "mini-batches; counts of one instant, not rolling", false, peer::query));
        new ObjectMapper().writeValue(Path.of(arguments[1]).toFile(), answers);
        System.exit(0);
    }

    private Map<String, Object> measure(String method, String note, boolean transitions, Job job) throws Exception {
        List<Double> seconds = new ArrayList<>();
        List<Double> processorSeconds = new ArrayList<>();
        for (int run = 0; run < runs; run++) {
            Configuration settings = new Configuration();
            settings.setString("state.backend.type", "hashmap");
            settings.setString("pipeline.object-reuse", "true");
            StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment(settings);
            environment.setParallelism(1);
            Answer.reset();
            job.run(environment);
            seconds.add((Answer.endedNanos - Answer.startedNanos) / 1e9);
            processorSeconds.add((Answer.endedProcessorNanos - Answer.startedProcessorNanos) / 1e9);
        }
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("method", method);
        answer.put("kind", "stream");
        answer.put("events", workload.events.size());
        answer.put("note", EnvironmentInformation.getVersion() + ", parallelism 1, heap state, object reuse, " + note);
        answer.put("seconds", seconds);
        answer.put("processor_seconds", processorSeconds);
        answer.put("members", Answer.members);
        if (transitions) {
            answer.put("transitions", Answer.transitions);
        }
        return answer;
    }

    private DataStream<Workload.Event> source(StreamExecutionEnvironment environment) {
        DataGeneratorSource<Workload.Event> source = new DataGeneratorSource<>(
                index -> {
                    if (index == 0) {
                        Answer.start();
                    }
                    return events.get(index.intValue());
                },
                events.size(),
                TypeInformation.of(Workload.Event.class));
        WatermarkStrategy<Workload.Event> inOrder =
                WatermarkStrategy.<Workload.Event>forMonotonousTimestamps().withTimestampAssigner((event, before) -> event.at);
        return environment.fromSource(source, inOrder, "events");
    }

    private void process(StreamExecutionEnvironment environment) throws Exception {
        source(environment)
                .keyBy(event -> event.user)
                .process(new Memberships(workload.segments, workload.until))
                .returns(CHANGE)
                .process(new Answer())
                .returns(Types.VOID)
                .sinkTo(new DiscardingSink<>());
        environment.execute();
    }

    private void query(StreamExecutionEnvironment environment) throws Exception {
        StreamTableEnvironment tables = StreamTableEnvironment.create(environment);
        tables.getConfig().set("table.exec.mini-batch.enabled", "true");
        tables.getConfig().set("table.exec.mini-batch.allow-latency", "1 s");
        tables.getConfig().set("table.exec.mini-batch.size", "5000");
        TypeInformation<Row> event = Types.ROW_NAMED(
                new String[] {"user_id", "activity", "category", "happened"}, Types.LONG, Types.STRING, Types.STRING, Types.LONG);
        DataStream<Row> rows = source(environment).map(e -> Row.of(e.user, e.activity, e.category, e.at)).returns(event);
        tables.createTemporaryView("events", rows);
        TypeInformation<Row> segment = Types.ROW_NAMED(
                new String[] {"id", "activity", "category", "since", "at_least"},
                Types.INT, Types.STRING, Types.STRING, Types.LONG, Types.LONG);
        List<Row> segments = new ArrayList<>();
        for (Workload.Segment s : workload.segments) {
            segments.add(Row.of(s.id(), s.activity(), s.category(), workload.until - s.window(), (long) s.atLeast()));
        }
        tables.createTemporaryView("segments", environment.fromData(segments, segment));
        tables.toChangelogStream(tables.sqlQuery(MEMBERS)).process(new Answer()).returns(Types.VOID).sinkTo(new DiscardingSink<>());
        environment.execute();
    }
}
