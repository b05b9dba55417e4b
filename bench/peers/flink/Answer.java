import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import org.apache.flink.streaming.api.functions.ProcessFunction;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;
import org.apache.flink.util.Collector;

/**
 * The last operator of a job: folds changes into the answer. The job runs in this process, so it leaves the answer in a field.
 */
final class Answer extends ProcessFunction<Row, Void> {
    /** Members by segment. */
    static Map<Integer, Set<Long>> members;
    static long transitions;
    /** When the source made the first event, and when this operator had seen everything. */
    static volatile long startedNanos;
    static volatile long endedNanos;
    /** The processor time of all threads by then: with the compiler and the garbage collector. */
    static volatile long startedProcessorNanos;
    static volatile long endedProcessorNanos;

    /** Prepares for another job. */
    static void reset() {
        members = new HashMap<>();
        transitions = 0;
    }

    static void start() {
        startedProcessorNanos = processorNanos();
        startedNanos = System.nanoTime();
    }

    private static long processorNanos() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    /** Takes a row of segment and user. Its kind says whether the user enters or leaves. */
    @Override
    public void processElement(Row row, Context context, Collector<Void> out) {
        Set<Long> users = members.computeIfAbsent((Integer) row.getField(0), segment -> new HashSet<>());
        boolean enters = row.getKind() == RowKind.INSERT || row.getKind() == RowKind.UPDATE_AFTER;
        if (enters ? users.add((Long) row.getField(1)) : users.remove((Long) row.getField(1))) {
            transitions++;
        }
    }

    @Override
    public void close() {
        endedNanos = System.nanoTime();
        endedProcessorNanos = processorNanos();
    }
}
