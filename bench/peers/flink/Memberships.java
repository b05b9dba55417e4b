import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;
import org.apache.flink.util.Collector;

/**
 * Keeps the memberships of each user current: an event touches the segments of its activity and category only, and one timer
 * for each user fires when the next membership ends.
 */
final class Memberships extends KeyedProcessFunction<Long, Workload.Event, Row> {
    private static final long NEVER = Long.MAX_VALUE;

    private final List<Workload.Segment> segments;
    private final long until;
    /** The segments of an activity and a category, and how many of the newest events decide them. */
    private transient Map<String, Map<String, Pattern>> patterns;
    private transient ValueState<User> state;

    private static final class Pattern {
        final int number;
        final List<Workload.Segment> segments = new ArrayList<>();
        int newest;

        Pattern(int number) {
            this.number = number;
        }
    }

    /** What is kept of a user. */
    public static final class User {
        /** The newest instants for each pattern, the newest first. */
        public Map<Integer, long[]> newest = new HashMap<>();
        /** The last instant of each membership if no event comes. */
        public Map<Integer, Long> members = new HashMap<>();
        public long armed = NEVER;
    }

    Memberships(List<Workload.Segment> segments, long until) {
        this.segments = new ArrayList<>(segments);
        this.until = until;
    }

    @Override
    public void open(OpenContext context) {
        state = getRuntimeContext().getState(new ValueStateDescriptor<>("user", User.class));
        patterns = new HashMap<>();
        for (Workload.Segment segment : segments) {
            Map<String, Pattern> ofActivity = patterns.computeIfAbsent(segment.activity(), activity -> new HashMap<>());
            Pattern pattern = ofActivity.computeIfAbsent(segment.category(), category -> new Pattern(segment.id()));
            pattern.segments.add(segment);
            pattern.newest = Math.max(pattern.newest, segment.atLeast());
        }
    }

    @Override
    public void processElement(Workload.Event event, Context context, Collector<Row> out) throws Exception {
        User user = state.value();
        if (user == null) {
            user = new User();
        }
        // The watermark follows behind, so a timer may be due that has not fired.
        leave(user, event.at, context.getCurrentKey(), out);
        Map<String, Pattern> ofActivity = patterns.get(event.activity);
        Pattern pattern = ofActivity == null ? null : ofActivity.get(event.category);
        if (pattern != null) {
            enter(user, pattern, event, out);
        }
        arm(user, context);
        state.update(user);
    }

    @Override
    public void onTimer(long at, OnTimerContext context, Collector<Row> out) throws Exception {
        User user = state.value();
        // The end of the source fires all timers. Those after the workload's end are not asked for.
        if (at > until || user == null) {
            return;
        }
        user.armed = NEVER;
        leave(user, at, context.getCurrentKey(), out);
        arm(user, context);
        state.update(user);
    }

    /** Ends the memberships whose last instant is before this one. */
    private static void leave(User user, long at, long key, Collector<Row> out) {
        for (Iterator<Map.Entry<Integer, Long>> left = user.members.entrySet().iterator(); left.hasNext(); ) {
            Map.Entry<Integer, Long> member = left.next();
            if (member.getValue() < at) {
                out.collect(Row.ofKind(RowKind.DELETE, member.getKey(), key));
                left.remove();
            }
        }
    }

    private static void enter(User user, Pattern pattern, Workload.Event event, Collector<Row> out) {
        long[] newest = user.newest.computeIfAbsent(pattern.number, number -> new long[pattern.newest]);
        System.arraycopy(newest, 0, newest, 1, newest.length - 1);
        newest[0] = event.at;
        for (Workload.Segment segment : pattern.segments) {
            long last = newest[segment.atLeast() - 1] + segment.window();
            if (last >= event.at && user.members.put(segment.id(), last) == null) {
                out.collect(Row.ofKind(RowKind.INSERT, segment.id(), event.user));
            }
        }
    }

    /** Arms a timer for the first membership that ends, unless an earlier one is armed. */
    private static void arm(User user, Context context) {
        long next = NEVER;
        for (long last : user.members.values()) {
            next = Math.min(next, last + 1);
        }
        if (next < user.armed) {
            user.armed = next;
            context.timerService().registerEventTimeTimer(next);
        }
    }
}
