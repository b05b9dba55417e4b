//! The tables in SeaORM's form. Instants are microseconds since 1970, UTC.
#![expect(unreachable_pub, reason = "what SeaORM derives is `pub`")]

/// Defines a table in a module of its own, as SeaORM requires.
macro_rules! table {
    ($(#[$doc:meta])* $module:ident, $name:literal, { $($(#[$attribute:meta])* $field:ident: $ty:ty,)+ }) => {
        $(#[$doc])*
        pub mod $module {
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
            #[sea_orm(table_name = $name)]
            pub struct Model { $($(#[$attribute])* pub $field: $ty,)+ }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}

table!(
    /// Users, including absorbed ones. Those point at their survivor, never at another absorbed
    /// user.
    user, "users", {
        #[sea_orm(primary_key)]
        id: i64,
        client_ref_id: Option<String>,
        name: Option<String>,
        email: Option<String>,
        created_at: i64,
        updated_at: i64,
        merged_into: Option<i64>,
        /// The number of times that the manual list was set.
        manual_version: i64,
    }
);

table!(
    /// The owners of identities. `id` is the form for comparison; `spelling` the original form, if
    /// it differs.
    identity, "identities", {
        #[sea_orm(primary_key, auto_increment = false)]
        id_type: String,
        #[sea_orm(primary_key, auto_increment = false)]
        id: String,
        user_id: i64,
        created_at: i64,
        spelling: Option<String>,
    }
);

table!(
    /// The types whose identities are stored in lower case.
    caseless_type, "caseless_types", {
        #[sea_orm(primary_key, auto_increment = false)]
        id_type: String,
    }
);

table!(
    /// Traits. `value` is JSON, `null` for a removed trait.
    user_trait, "traits", {
        #[sea_orm(primary_key, auto_increment = false)]
        user_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        key: String,
        value: String,
        created_at: i64,
    }
);

table!(
    /// Kinds of events.
    activity, "activities", {
        #[sea_orm(primary_key)]
        id: i64,
        title: String,
        description: Option<String>,
        code: String,
        created_at: i64,
        updated_at: i64,
    }
);

table!(
    /// Segments. `kind` is `computed` or `manual`.
    segment, "segments", {
        #[sea_orm(primary_key)]
        id: i64,
        title: String,
        description: Option<String>,
        tag: String,
        where_statement: String,
        is_generic: bool,
        kind: String,
        version: i64,
        created_at: i64,
        updated_at: i64,
    }
);

table!(
    /// The tags that a segment's clause names.
    segment_use, "segment_uses", {
        #[sea_orm(primary_key, auto_increment = false)]
        segment_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        tag: String,
    }
);

table!(
    /// Links between activities and segments.
    activity_segment, "activity_segments", {
        #[sea_orm(primary_key, auto_increment = false)]
        activity_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        segment_id: i64,
    }
);

/// Memberships, as the engine emitted them.
pub(super) mod membership {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "memberships")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub user_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub segment_id: i64,
        pub created_at: i64,
        pub updated_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {
        #[sea_orm(belongs_to = "super::user::Entity", from = "Column::UserId", to = "super::user::Column::Id")]
        User,
    }

    impl Related<super::user::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::User.def()
        }
    }

    impl ActiveModelBehavior for ActiveModel {}
}

table!(
    /// The manual lists: the intended members of the manual segments.
    manual_membership, "manual_memberships", {
        #[sea_orm(primary_key, auto_increment = false)]
        user_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        segment_id: i64,
    }
);

table!(
    /// The position of `memberships` in the notification topic.
    membership_position, "membership_positions", {
        #[sea_orm(primary_key, auto_increment = false)]
        partition: i64,
        position: i64,
    }
);

table!(
    /// Records to append to the log. `topic` is `events` or `config`.
    outbox, "outbox", {
        #[sea_orm(primary_key)]
        id: i64,
        topic: String,
        key: i64,
        value: String,
    }
);
