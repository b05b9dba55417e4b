//! The stable codes of errors, in the answers of both APIs and in the records of the error topic.

use std::fmt;

use segment_engine::language::CompileError;
use serde::{Serialize, Serializer};

macro_rules! error_codes {
    ($($name:ident = $text:literal,)*) => {
        /// What went wrong, for programs. `docs/reference/http-api.md` says what each code means and what to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the reference describes each, and a test compares both")]
        pub enum ErrorCode {
            $($name,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The code as clients see it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => $text,)*
                }
            }
        }
    };
}

error_codes! {
    // The request.
    InvalidJson = "INVALID_JSON",
    InvalidBody = "INVALID_BODY",
    InvalidQuery = "INVALID_QUERY",
    InvalidPath = "INVALID_PATH",
    InvalidField = "INVALID_FIELD",
    InvalidLimit = "INVALID_LIMIT",
    InvalidCursor = "INVALID_CURSOR",
    InvalidTime = "INVALID_TIME",
    UnknownPath = "UNKNOWN_PATH",
    MethodNotAllowed = "METHOD_NOT_ALLOWED",
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE",
    UnsupportedEncoding = "UNSUPPORTED_ENCODING",
    EmptyBody = "EMPTY_BODY",
    BodyCutOff = "BODY_CUT_OFF",
    BodyTooSlow = "BODY_TOO_SLOW",
    BodyTooLarge = "BODY_TOO_LARGE",
    InvalidGzip = "INVALID_GZIP",
    CompressionRatioTooHigh = "COMPRESSION_RATIO_TOO_HIGH",
    LineTooLong = "LINE_TOO_LONG",
    TooManyEvents = "TOO_MANY_EVENTS",
    TooManyRejected = "TOO_MANY_REJECTED",

    // Access.
    Unauthorized = "UNAUTHORIZED",
    Forbidden = "FORBIDDEN",
    OriginNotAllowed = "ORIGIN_NOT_ALLOWED",
    HostNotAllowed = "HOST_NOT_ALLOWED",

    // Events.
    NotAnObject = "NOT_AN_OBJECT",
    EventsWrapped = "EVENTS_WRAPPED",
    MissingId = "MISSING_ID",
    InvalidId = "INVALID_ID",
    InvalidOrderTotal = "INVALID_ORDER_TOTAL",
    InvalidCreatedAt = "INVALID_CREATED_AT",
    FutureEvent = "FUTURE_EVENT",
    EventTooLarge = "EVENT_TOO_LARGE",

    // Dead letters.
    ErrorNotFound = "ERROR_NOT_FOUND",
    NotAnEvent = "NOT_AN_EVENT",
    EventIncomplete = "EVENT_INCOMPLETE",
    NotPatchable = "NOT_PATCHABLE",
    RecordDamaged = "RECORD_DAMAGED",

    // Users, identities and traits.
    UserNotFound = "USER_NOT_FOUND",
    ClientRefIdTaken = "CLIENT_REF_ID_TAKEN",
    ClientRefIdMissing = "CLIENT_REF_ID_MISSING",
    EmailTaken = "EMAIL_TAKEN",
    IdentityNotFound = "IDENTITY_NOT_FOUND",
    IdentityTaken = "IDENTITY_TAKEN",
    IdentityExclusive = "IDENTITY_EXCLUSIVE",
    TooManyIdentities = "TOO_MANY_IDENTITIES",
    TooManyTraits = "TOO_MANY_TRAITS",
    TraitsFull = "TRAITS_FULL",
    CreatedAtAhead = "CREATED_AT_AHEAD",

    // Segments and activities.
    SegmentNotFound = "SEGMENT_NOT_FOUND",
    UnknownSegment = "UNKNOWN_SEGMENT",
    SegmentCycle = "SEGMENT_CYCLE",
    SegmentInUse = "SEGMENT_IN_USE",
    TagTaken = "TAG_TAKEN",
    SegmentsFull = "SEGMENTS_FULL",
    KindFixed = "KIND_FIXED",
    ManualWithClause = "MANUAL_WITH_CLAUSE",
    InvalidSample = "INVALID_SAMPLE",
    ActivityNotFound = "ACTIVITY_NOT_FOUND",
    CodeTaken = "CODE_TAKEN",
    NotFound = "NOT_FOUND",

    // Where clauses, spelled as the engine's compiler spells them.
    WhereMissing = "WHERE_MISSING",
    WhereSyntax = "WHERE_SYNTAX",
    WhereComment = "WHERE_COMMENT",
    WhereParameter = "WHERE_PARAMETER",
    WhereSubquery = "WHERE_SUBQUERY",
    WhereUnsupported = "WHERE_UNSUPPORTED",
    WhereTooLong = "WHERE_TOO_LONG",
    WhereTooDeep = "WHERE_TOO_DEEP",
    WhereTooManyAggregates = "WHERE_TOO_MANY_AGGREGATES",
    WhereTooManyPatterns = "WHERE_TOO_MANY_PATTERNS",
    WhereTooManyUserTerms = "WHERE_TOO_MANY_USER_TERMS",
    WhereTooManySteps = "WHERE_TOO_MANY_STEPS",
    WhereUnknownColumn = "WHERE_UNKNOWN_COLUMN",
    WhereUnknownFunction = "WHERE_UNKNOWN_FUNCTION",
    WhereArguments = "WHERE_ARGUMENTS",
    WhereType = "WHERE_TYPE",
    WhereNotBoolean = "WHERE_NOT_BOOLEAN",
    WhereBadLiteral = "WHERE_BAD_LITERAL",
    WhereBadPattern = "WHERE_BAD_PATTERN",
    WhereMixedForms = "WHERE_MIXED_FORMS",
    WhereMixedScopes = "WHERE_MIXED_SCOPES",
    WhereNowMisplaced = "WHERE_NOW_MISPLACED",
    WhereAggregateMisplaced = "WHERE_AGGREGATE_MISPLACED",
    WhereWindowFunction = "WHERE_WINDOW_FUNCTION",
    WhereThreshold = "WHERE_THRESHOLD",

    // Topics, positions and streams.
    TopicNotFound = "TOPIC_NOT_FOUND",
    InvalidPartition = "INVALID_PARTITION",
    InvalidRange = "INVALID_RANGE",
    MembershipPosition = "MEMBERSHIP_POSITION",
    PositionBeyondEnd = "POSITION_BEYOND_END",
    PositionTrimmed = "POSITION_TRIMMED",
    TooManyStreams = "TOO_MANY_STREAMS",

    // What is busy, behind or down.
    OverCapacity = "OVER_CAPACITY",
    TooManyConnections = "TOO_MANY_CONNECTIONS",
    LogUnavailable = "LOG_UNAVAILABLE",
    LogFull = "LOG_FULL",
    StoreUnavailable = "STORE_UNAVAILABLE",
    UsersUnavailable = "USERS_UNAVAILABLE",
    WarehouseUnavailable = "WAREHOUSE_UNAVAILABLE",
    EngineUnavailable = "ENGINE_UNAVAILABLE",
    CheckpointsUnavailable = "CHECKPOINTS_UNAVAILABLE",
    WorkersDown = "WORKERS_DOWN",
    QueryTooSlow = "QUERY_TOO_SLOW",
    QueryTooLarge = "QUERY_TOO_LARGE",
    EngineBehind = "ENGINE_BEHIND",
    Internal = "INTERNAL",
    StoreDamaged = "STORE_DAMAGED",
    ClockJumped = "CLOCK_JUMPED",
    ClockBehind = "CLOCK_BEHIND",

    // Failed computations, on the error topic only.
    BadRecord = "BAD_RECORD",
    BadSegment = "BAD_SEGMENT",
    BadTransfer = "BAD_TRANSFER",
    UserDeleted = "USER_DELETED",
    StateFull = "STATE_FULL",
}

impl ErrorCode {
    /// The code with this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

/// Why the compiler refused a clause.
impl From<&CompileError> for ErrorCode {
    fn from(error: &CompileError) -> Self {
        Self::parse(error.code).expect("a test compares the compiler's codes with these")
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_upper_snake_and_has_one_name() {
        for code in ErrorCode::ALL {
            let text = code.as_str();
            let is_upper_snake =
                text.split('_').all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase()));
            assert!(is_upper_snake, "{text}");
            assert_eq!(ErrorCode::parse(text), Some(*code));
        }
        let texts: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), ErrorCode::ALL.len());
        assert_eq!(ErrorCode::parse("where_syntax"), None);
    }

    #[test]
    fn every_code_of_the_compiler_is_an_error_code() {
        let ours: BTreeSet<&str> =
            ErrorCode::ALL.iter().map(|code| code.as_str()).filter(|text| text.starts_with("WHERE_")).collect();
        let mut expected: BTreeSet<&str> = segment_engine::language::CODES.iter().copied().collect();
        // The configuration API's own: there is no clause to compile.
        expected.insert("WHERE_MISSING");
        assert_eq!(ours, expected);
    }
}
