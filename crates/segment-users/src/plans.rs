//! The plans of clauses, one for all partitions of a process: a plan's patterns and long lists take memory, and compiling
//! them time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use segment_engine::language::{CompileError, compile_saved};
use segment_engine::plan::Plan;

/// The plans that any partition holds, by clause. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Plans(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    by_clause: HashMap<String, Weak<Plan>>,
    /// How many entries there were when those that nobody holds any longer were last dropped.
    swept: usize,
}

impl Plans {
    /// The plan of a clause that was accepted when it was saved.
    ///
    /// # Errors
    /// What the compiler says.
    pub fn plan(&self, clause: &str) -> Result<Arc<Plan>, CompileError> {
        // While one partition compiles, the others wait: they want the same plan.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = known.by_clause.get(clause).and_then(Weak::upgrade) {
            return Ok(plan);
        }
        let plan = Arc::new(compile_saved(clause)?);
        if known.by_clause.len() > 2 * known.swept {
            known.by_clause.retain(|_, plan| plan.strong_count() > 0);
            known.swept = known.by_clause.len();
        }
        known.by_clause.insert(clause.to_owned(), Arc::downgrade(&plan));
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn a_plan_is_shared_while_it_is_held() {
        let plans = Plans::default();
        let first = plans.plan(r"url ~ '\w+'").unwrap();
        assert!(Arc::ptr_eq(&first, &plans.clone().plan(r"url ~ '\w+'").unwrap()));
        assert!(!Arc::ptr_eq(&first, &plans.plan("url = 'x'").unwrap()));
        drop(first);
        for number in 0..100 {
            plans.plan(&format!("url = '{number}'")).unwrap();
        }
        let left = plans.0.lock().unwrap().by_clause.len();
        assert!(left < 5, "{left} clauses are kept whose plans nobody holds");
    }

    #[test]
    fn a_clause_that_cannot_be_compiled_is_refused_each_time() {
        let plans = Plans::default();
        assert!(plans.plan("nowhere = 1").is_err());
        assert!(plans.plan("nowhere = 1").is_err());
    }

    /// Refused when it is saved today, it goes on as it was.
    #[test]
    fn what_an_earlier_build_accepted_goes_on() {
        assert!(Plans::default().plan("country = 'DE' OR 'NO'").is_ok());
    }
}
