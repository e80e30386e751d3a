//! The command lines of `drover init` and `drover publish`: what they make is printed, and a
//! running daemon is told of it.

use super::init::{InitArgs, init as make};
use super::publish::{Outcome, PublishArgs, PublishResult, publish as write_release};
use super::{Context, Exit, Failure, ProgressLine, print_json};
use crate::control::{self, CallError, HostsArgs, HostsPage, Published, PublishedArgs, verb};
use crate::table::words::{plural, size};
use engine::ids::HostName;
use engine::time::WallMs;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Makes keys, configuration and an empty site.
///
/// # Errors
/// Something is there already, or cannot be written.
pub fn init(context: &Context, args: &InitArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let made = make(args).map_err(|e| Failure::new(e, Exit::Failed))?;
    if context.json {
        print_json(out, &made)?;
    } else {
        out.write_all(made.to_text().as_bytes())?;
    }
    Ok(Exit::Done)
}

/// What the command line of `drover publish` says.
#[derive(Debug, Clone, Default)]
pub struct PublishWish {
    /// The site's directory; `None` takes the configuration's.
    pub site: Option<PathBuf>,
    /// Write nothing.
    pub dry_run: bool,
    /// Publish even if nothing has changed.
    pub force: bool,
    /// The revision is at least this.
    pub revision_min: u64,
}

/// What `--json` prints: the release, and what the daemon does with it.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    release: &'a PublishResult,
    /// The push that has begun; `None` if there is none.
    push: Option<Published>,
}

/// Publishes a site, and tells the daemon, which pushes it.
///
/// # Errors
/// The site has mistakes, nothing can be written, or the daemon does not take the release.
pub fn publish(
    context: &Context,
    wish: PublishWish,
    now: WallMs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let config = context.config()?;
    let socket = &config.control_socket;
    let (known_hosts, held_max) = known_hosts(socket);
    let args = PublishArgs {
        dry_run: wish.dry_run,
        force: wish.force,
        revision_min: wish.revision_min,
        known_hosts,
        ..PublishArgs::new(
            wish.site.unwrap_or_else(|| config.site_dir.clone()),
            &config.state_dir,
            &config.signing_key,
        )
    };
    let mut line = ProgressLine::new(context);
    let done = write_release(&args, now, &mut |read| {
        if read.files.is_multiple_of(64) {
            line.show(&format!("{} files, {} read", read.files, size(read.bytes)));
        }
    });
    line.clear();
    let mut release = done.map_err(|e| Failure::new(e, Exit::Failed))?;
    let is_refused = match release.outcome {
        Outcome::Unchanged => release.revision < held_max,
        // That number again, with other contents, is to them what they hold already.
        Outcome::Published | Outcome::DryRun => release.revision <= held_max,
    };
    if is_refused {
        release.warnings.push(format!(
            "there are hosts that hold revision {held_max}, and refuse revision {}: run `drover publish --revision-min {}`",
            release.revision,
            held_max.saturating_add(1)
        ));
    }
    let told = match release.outcome {
        // Also if it is the one before: the daemon may not have been able to load that.
        Outcome::Published | Outcome::Unchanged => {
            let args = PublishedArgs { revision: release.revision };
            Some(control::ask::<Published>(socket, verb::PUBLISHED, &args))
        }
        Outcome::DryRun => None,
    };
    if context.json {
        let push = told.as_ref().and_then(|told| told.as_ref().ok()).copied();
        print_json(out, &Answer { release: &release, push })?;
    } else {
        out.write_all(release.to_text().as_bytes())?;
    }
    let next = match told {
        None => String::new(),
        Some(Ok(Published { targets: 0, .. }) | Err(CallError::NotRunning { .. }))
            if release.outcome == Outcome::Unchanged =>
        {
            String::new()
        }
        Some(Ok(push)) => {
            let hosts = plural(push.targets, "host", "hosts");
            format!("pushing it to {hosts}; `drover hosts` shows who has it\n")
        }
        // It will find the release when it starts: nothing has failed.
        Some(Err(CallError::NotRunning { .. })) => {
            "the master is not running: it distributes the release once it is started\n".to_owned()
        }
        Some(Err(error)) => {
            let failure = context.call_failure(error);
            let error = format!(
                "revision {} is published, but the running master does not distribute it: {}",
                release.revision, failure.error
            );
            return Err(Failure { error, ..failure });
        }
    };
    if !context.json {
        out.write_all(next.as_bytes())?;
    }
    Ok(Exit::Done)
}

/// Hosts that the daemon knows, to say whom a change affects, and the latest revision that any
/// of them holds; none while it is not running.
fn known_hosts(socket: &Path) -> (Vec<HostName>, u64) {
    let (mut names, mut held_max) = (Vec::new(), 0);
    let mut args = HostsArgs::default();
    while let Ok(page) = control::ask::<HostsPage>(socket, verb::HOSTS, &args) {
        held_max = page.hosts.iter().filter_map(|host| host.held).fold(held_max, u64::max);
        names.extend(page.hosts.iter().filter_map(|host| host.name.parse().ok()));
        args.after = page.next;
        if args.after.is_none() {
            break;
        }
    }
    (names, held_max)
}
