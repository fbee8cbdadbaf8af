//! What the web server tells about itself. What happens per request is counted, not logged.

use std::path::Path;

use trilith_telemetry::{Event, Labels};

/// Requests are served from another folder from now on.
pub struct CodeBaseSwitched<'a> {
    pub path: &'a Path,
}

impl Event for CodeBaseSwitched<'_> {
    const NAME: &'static str = "web_code_base_switches";
    const HELP: &'static str = "Times the web server began to serve another code base folder";

    fn log(&self) {
        tracing::info!(path = %self.path.display(), "serving from this code base");
    }
}

/// The instances that requests for an app go to have changed.
pub struct InstancesChanged<'a> {
    pub app: &'a str,
    pub live: usize,
}

impl Event for InstancesChanged<'_> {
    const NAME: &'static str = "web_instance_changes";
    const HELP: &'static str = "Changes of the set of app instances that requests go to";

    fn labels(&self) -> Labels {
        vec![("app", self.app.to_owned())]
    }

    fn log(&self) {
        tracing::info!(
            app = self.app,
            live = self.live,
            "live app instances changed"
        );
    }
}

/// The web server began, or ceased, to send requests for apps elsewhere.
pub struct DrainChanged {
    pub draining: bool,
}

impl Event for DrainChanged {
    const NAME: &'static str = "web_drain_changes";
    const HELP: &'static str = "Times the web server began or ceased to drain";

    fn log(&self) {
        tracing::info!(draining = self.draining, "web server drain");
    }
}
