//! What both executables share: exit status, error report, progress, tables, and numbers for people.
//!
//! Results go to standard output; progress, logs and errors to standard error.

pub mod format;
mod numbers;
pub mod progress;
mod report;
mod stopped;
mod table;
mod visible;

pub use numbers::negative_numbers;
pub use report::{Status, run};
pub use stopped::{is_ignored, when_stopped};
pub use table::{histogram, table};
pub use visible::{visible, visible_json, visible_lines};
