pub(crate) struct Plan {
    pub reason: String,
    pub steps: Vec<String>,
}
