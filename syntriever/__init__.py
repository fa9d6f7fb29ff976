"""Syntriever: distil a black-box LLM into a dense retriever (Kim & Baek, NAACL Findings 2025)."""
