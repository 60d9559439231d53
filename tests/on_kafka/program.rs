//! The built binary as a child, with a join of its own topics.

use super::{Kafka, PATIENCE, unique, until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A join with topics, a state directory and a configuration file of its own.
pub struct App {
    pub id: String,
    pub table: String,
    pub stream: String,
    pub output: String,
    pub dead: String,
    pub folder: tempfile::TempDir,
    pub kafka: Kafka,
}

impl App {
    /// With its four topics.
    pub fn new(kafka: &Kafka, name: &str, partitions: i32) -> Self {
        let app = Self::without_topics(kafka, name);
        for topic in [&app.table, &app.stream, &app.output, &app.dead] {
            kafka.create(topic, partitions, &[]);
        }
        app
    }

    pub fn without_topics(kafka: &Kafka, name: &str) -> Self {
        let id = unique(name);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let topic = |what: &str| format!("{id}-{what}");
        let [table, stream, output, dead] = ["table", "stream", "out", "dead"].map(topic);
        let app = Self { id, table, stream, output, dead, folder, kafka: kafka.clone() };
        std::fs::write(app.file(), app.toml()).expect("the folder is writable");
        app
    }

    fn toml(&self) -> String {
        let Self { id, table, stream, output, dead, kafka, .. } = self;
        let (servers, state) = (&kafka.servers, self.state_dir());
        let state = state.display();
        format!(
            "[streams]\napplication.id = \"{id}\"\nbootstrap.servers = \"{servers}\"\nstate.dir = \"{state}\"\n\
             commit.interval.ms = 100\ntopology.optimization = \"all\"\n\
             [join]\ntable.topic = \"{table}\"\nstream.topic = \"{stream}\"\noutput.topic = \"{output}\"\n\
             [errors]\ndead.letter.topic = \"{dead}\"\n[http]\nlisten = \"127.0.0.1:0\"\n"
        )
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("join.toml")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// `watersmeet VERB --config … --set …`.
    pub fn command(&self, verb: &str, settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program());
        command.arg(verb).arg("--config").arg(self.file());
        for (key, value) in settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command
    }

    pub fn run(&self, settings: &[(&str, &str)]) -> Program {
        Program::spawn(self.command("run", settings))
    }
}

/// The binary that cargo has built beside this program.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_watersmeet"))
}

/// The running program; killed where the test ends before it.
pub struct Program {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Program {
    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let (log, pipe) = (Arc::new(Mutex::default()), child.stderr.take().expect("piped"));
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut lines: std::sync::MutexGuard<'_, String> = lines.lock().expect("nobody panics with it");
                lines.push_str(&line);
                lines.push('\n');
            }
        });
        Self { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard error.
    pub fn log(&self) -> String {
        self.log.lock().expect("nobody panics with it").clone()
    }

    fn address(&self) -> String {
        until("the program says where its page is", || {
            let log = self.log();
            let at = log.split_once("the page: http://")?.1;
            Some(at.split_once("/\n")?.0.to_owned())
        })
    }

    /// `GET`: the code and the body.
    pub fn get(&self, path: &str) -> (u16, String) {
        get(&self.address(), path)
    }

    /// The code of a path.
    pub fn code(&self, path: &str) -> u16 {
        self.get(path).0
    }

    pub fn health(&self) -> Value {
        serde_json::from_str(&self.get("/health").1).expect("JSON")
    }

    /// The sum of a metric over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").1;
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    pub fn until_health(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{what}: {}", self.log()), || {
            let ended = self.child.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "ended with {ended:?} before {what}:\n{}", self.log());
            Some(self.health()).filter(|health| is_so(health))
        })
    }

    pub fn until_running(&mut self) {
        self.until_health("it is RUNNING", |health| health["state"] == "RUNNING");
    }

    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        // SAFETY: kill takes two numbers; the pid is that of a child that nobody has waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits for its end; the exit code, -1 where a signal ended it.
    pub fn wait(&mut self) -> i32 {
        let status = until("the program ends", || self.child.try_wait().expect("a child of ours"));
        ExitStatus::code(&status).unwrap_or(-1)
    }

    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.wait();
    }

    /// SIGTERM; the exit code.
    pub fn terminate(&mut self) -> i32 {
        self.signal(libc::SIGTERM);
        self.wait()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- the program's log:\n{}", self.log());
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `GET http://ADDRESS/PATH`: the code and the body.
pub fn get(address: &str, path: &str) -> (u16, String) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match try_get(address, path) {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < deadline, "{address}{path}: {error}"),
        }
    }
}

fn try_get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    code.zip(body).ok_or_else(|| std::io::Error::other(format!("no HTTP: {text}")))
}
