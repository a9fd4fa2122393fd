//! Where results go: text for people, or JSON.

use serde_json::Value;
use std::io::{self, Write};

/// Standard output, and which of the two forms it is to have. Written out line by line.
pub(crate) struct Out {
    json: bool,
    sink: Box<dyn Write>,
}

impl Out {
    /// Standard output.
    pub(crate) fn stdout(json: bool) -> Self {
        // Line-buffered: whoever waits for a line reads a pipe.
        Self { json, sink: Box::new(io::stdout()) }
    }

    /// JSON is asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// A whole JSON document, over several lines.
    pub(crate) fn document(&mut self, value: &Value) -> io::Result<()> {
        writeln!(self.sink, "{value:#}")
    }

    /// A JSON document on one line.
    pub(crate) fn json_line(&mut self, value: &Value) -> io::Result<()> {
        writeln!(self.sink, "{value}")
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
