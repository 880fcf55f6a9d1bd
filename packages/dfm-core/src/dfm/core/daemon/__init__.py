"""One process per project that keeps workers warm and shares them: its place, its server, its clients, its monitor."""
