"""The paper's tables: rows as data (tables/*.yaml), measured beside published."""
