//! The live table on a terminal.

use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Table, Wrap};
use ratatui::{DefaultTerminal, Frame};

use super::scene::{self, EMBEDDED, Scene};

/// The terminal in its own mode, which dropping ends, by a panic too.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When it refuses.
    pub(super) fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }

    /// Draws a moment.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn draw(&mut self, scene: &Scene, now: i64) -> io::Result<()> {
        self.0.draw(|frame| draw(frame, scene, now)).map(drop)
    }

    /// Whether somebody asked to leave: q, Escape or Ctrl-C, which is a key like any other in this mode. Does not wait.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn asked_to_leave() -> io::Result<bool> {
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()? {
                let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = ratatui::try_restore();
    }
}

fn draw(frame: &mut Frame<'_>, scene: &Scene, now: i64) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(3), Constraint::Min(3), Constraint::Length(6)]).areas(frame.area());
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let title = Line::styled("Nearcast demo (q or Ctrl-C ends it)", bold);
    frame.render_widget(Paragraph::new(vec![title, Line::from(EMBEDDED)]).wrap(Wrap { trim: true }), head);

    let nearest = scene.neighbours.nearest();
    let rows = nearest.iter().map(|neighbour| Row::new(scene::row(neighbour, now)));
    let widths = [Constraint::Min(16), Constraint::Length(12), Constraint::Length(8), Constraint::Length(12)];
    let table = Table::new(rows, widths)
        .header(Row::new(["friend", "distance", "age", ""]).style(bold))
        .block(Block::bordered().title(format!(" {} friends near {} ", nearest.len(), scene.name)));
    frame.render_widget(table, body);

    let lines = vec![Line::from(scene.phones()), Line::from(scene.rates.as_str()), Line::from(scene.verdict())];
    let pipeline = Paragraph::new(lines).wrap(Wrap { trim: true }).block(Block::bordered().title(" pipeline "));
    frame.render_widget(pipeline, foot);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::simulate::view::Step;

    #[test]
    fn the_table_shows_the_friends_and_says_what_it_is() {
        let mut scene = Scene::of("Anna".to_owned());
        let upsert =
            r#"{"id":"b","display_name":"Bob","lat":1,"lon":1,"distance_m":2140,"at":1000,"approximate":true}"#;
        scene.neighbours.apply(Step::Put(serde_json::from_str(upsert).unwrap()), 0);
        let mut terminal = Terminal::new(TestBackend::new(100, 20)).unwrap();
        terminal.draw(|frame| draw(frame, &scene, 4_000)).unwrap();
        let shown: String = terminal.backend().buffer().content().iter().map(|cell| cell.symbol()).collect();
        for text in [
            "embedded mode",
            "nothing is durable",
            "1 friends near Anna",
            "Bob",
            "2.1 km",
            "3 s",
            "approximate",
            "audit:",
        ] {
            assert!(shown.contains(text), "{text}");
        }
    }
}
