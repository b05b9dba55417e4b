//! Users, identities, traits, segments, activities over HTTP, and who is in what and why.
